//! The files of a run, beside its pictures.
//!
//! - `result.json`: everything, but the histograms themselves.
//! - `run.hlog`: response times by operation and second, for the tools of HdrHistogram (format 1.3, histograms V2, deflated).
//! - `OPERATION.hgrm`: the distribution of its response times in microseconds, for the same.
//! - `intervals.csv`: percentiles over time, in nanoseconds.

use super::RunResult;
use super::json::put_json;
use crate::record::{Histogram, Recorder, histogram};
use anyhow::{Context, anyhow};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// An interval of the log, in seconds.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// HdrHistogram's own tools show values divided by this: nanoseconds become milliseconds.
const LOG_DIVISOR: f64 = 1e6;
/// Lines to each halving of what is above.
const TICKS: u32 = 5;

/// Makes the folder, and writes them.
pub(crate) fn write(folder: &Path, result: &RunResult, recorder: &Recorder, began: SystemTime) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    put_json(folder, "result.json", result)?;
    put("run.hlog", &log(recorder, began)?)?;
    for (number, op) in recorder.ops().iter().enumerate() {
        let total = recorder.total(number);
        put(&format!("{op}.hgrm"), distribution(&total.response).as_bytes())?;
    }
    put("intervals.csv", table(recorder).as_bytes())
}

fn log(recorder: &Recorder, began: SystemTime) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("ring9-bench: response times in nanoseconds, a tag for each operation")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(LOG_DIVISOR)
        .begin_log_with(&mut bytes, &mut serializer)?;
    let mut intervals = recorder.intervals().iter().peekable();
    while let Some(first) = intervals.peek() {
        let start = Duration::from_secs(first.start.as_secs() / LOG_INTERVAL.as_secs() * LOG_INTERVAL.as_secs());
        let mut sums: Vec<Histogram> = recorder.ops().iter().map(|_| histogram()).collect();
        let mut end = start;
        while let Some(interval) = intervals.next_if(|interval| interval.start < start + LOG_INTERVAL) {
            end = interval.start + recorder.interval();
            for (sum, times) in sums.iter_mut().zip(&interval.times) {
                sum.add(&times.response).expect("the same bounds");
            }
        }
        for (op, sum) in recorder.ops().iter().zip(&sums) {
            let tag = Tag::new(op.name()).context("a name is a tag")?;
            log.write_histogram(sum, start, end - start, Some(tag)).map_err(|error| anyhow!("{error:?}"))?;
        }
    }
    drop(log);
    Ok(bytes)
}

/// As `outputPercentileDistribution` of HdrHistogram prints it.
fn distribution(times: &Histogram) -> String {
    let us = |ns: f64| ns / 1000.0;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for at in times.iter_quantiles(TICKS) {
        total += at.count_since_last_iteration();
        let (value, quantile) = (us(at.value_iterated_to() as f64), at.quantile_iterated_to());
        let above = 1.0 - quantile;
        let inverse = if above > 0.0 { format!("{:>14.2}", 1.0 / above) } else { format!("{:>14}", "inf") };
        let _ = writeln!(text, "{value:>12.3} {quantile:>14.12} {total:>10} {inverse}");
    }
    let (mean, deviation) = (us(times.mean()), us(times.stdev()));
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {:>12.3}, Total count    = {:>12}]", us(times.max() as f64), times.len());
    let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", times.buckets(), 2048);
    text
}

fn table(recorder: &Recorder) -> String {
    let mut text = String::from(
        "start_s,operation,count,response_p50_ns,response_p90_ns,response_p99_ns,response_max_ns,service_p50_ns,service_p99_ns,service_max_ns,lag_p99_ns\n",
    );
    for interval in recorder.intervals() {
        for (op, times) in recorder.ops().iter().zip(&interval.times) {
            let [response, service, lag] = [&times.response, &times.service, &times.lag]
                .map(|times| move |quantile: f64| times.value_at_quantile(quantile));
            let _ = writeln!(
                text,
                "{:.6},{op},{},{},{},{},{},{},{},{},{}",
                interval.start.as_secs_f64(),
                times.response.len(),
                response(0.5),
                response(0.9),
                response(0.99),
                times.max_ns[0],
                service(0.5),
                service(0.99),
                times.max_ns[1],
                lag(0.99)
            );
        }
    }
    text
}
