//! Pictures, as SVG.

use crate::record::Percentile;
use crate::result::{Comparison, HeldRate, Measured, Point, RunResult, Statistic, Sweep, nanoseconds};
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{BandPlot, ForestPlot, LinePlot, ScatterPlot};
use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use serde::Serialize;
use std::sync::Arc;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
/// Colours that people with any kind of sight can tell apart (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

/// One of the page.
#[derive(Serialize)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) svg: String,
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

fn draw(title: &str, plots: Vec<Plot>, layout: impl FnOnce(Layout) -> Layout) -> Picture {
    let base = Layout::auto_from_plots(&plots)
        .with_width(WIDTH)
        .with_height(HEIGHT)
        .with_label_size(13)
        .with_tick_size(12)
        .with_body_size(12);
    let svg = kuva::render_to_svg(plots, layout(base));
    Picture { title: title.into(), svg }
}

fn times() -> TickFormat {
    TickFormat::Custom(Arc::new(nanoseconds_round))
}

/// Of an axis: 100 us, not 100.00 us.
fn nanoseconds_round(ns: f64) -> String {
    let text = nanoseconds(ns.round().max(0.0) as u64);
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// Powers of ten around values, for an axis: what is compared has the same one.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| *value > 0.0)
        .fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let low = if low > high { 1.0 } else { low };
    let (low, high) = (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil()));
    (low, if high > low { high } else { low * 10.0 })
}

/// One over the share of operations that are slower: so 90, 99 and 99.9 % have the same distance.
fn nines(p: f64) -> f64 {
    1.0 / (1.0 - p)
}

/// The value at each percentile, with bands of 95 %: response times of several runs, or response and service times of one.
pub(super) fn percentiles(runs: &[&(String, RunResult)]) -> Picture {
    let mut curves = Vec::new();
    for (name, run) in runs {
        if runs.len() == 1 {
            for (operation, times) in
                run.operations.iter().filter(|(name, _)| *name != "all" || run.operations.len() == 2)
            {
                curves.push((format!("{operation}, response"), &times.response));
                curves.push((format!("{operation}, service"), &times.service));
            }
        } else {
            curves.push((name.clone(), &run.all().response));
        }
    }
    let mut plots = Vec::new();
    let (mut values, mut right) = (Vec::new(), 10.0_f64);
    for (number, (name, summary)) in curves.iter().enumerate() {
        let points: Vec<(f64, f64)> = summary.curve.iter().map(|at| (nines(at.p), at.value.max(1) as f64)).collect();
        let ends: Vec<(f64, [f64; 2])> = summary
            .curve
            .iter()
            .filter_map(|at| Some((nines(at.p), at.interval?.map(|ns| ns.max(1) as f64))))
            .collect();
        values.extend(points.iter().map(|point| point.1).chain(ends.iter().flat_map(|(_, ends)| *ends)));
        right = points.iter().fold(right, |right, point| right.max(point.0));
        if !ends.is_empty() {
            let (low, high) = (ends.iter().map(|(_, ends)| ends[0]), ends.iter().map(|(_, ends)| ends[1]));
            let band = BandPlot::new(ends.iter().map(|(x, _)| *x), low, high);
            plots.push(Plot::from(band.with_color(colour(number)).with_opacity(0.2)));
        }
        plots.push(
            LinePlot::new()
                .with_data(points)
                .with_color(colour(number))
                .with_stroke_width(2.0)
                .with_legend(name.as_str())
                .into(),
        );
    }
    let (low, high) = decades(values.into_iter());
    let right = 10_f64.powf(right.log10().ceil());
    let kind = if runs[0].1.plan.open_loop { "open loop" } else { "closed loop: stalls hide" };
    let percent = TickFormat::Custom(Arc::new(|x: f64| {
        let percent = (100.0 - 100.0 / x) as f32;
        format!("{percent} %")
    }));
    draw(&format!("Time of so many of the operations, at most ({kind})"), plots, |layout| {
        layout
            .with_log_scale()
            .with_x_axis_min(1.0)
            .with_x_axis_max(right)
            .with_y_axis_min(low)
            .with_y_axis_max(high)
            .with_x_tick_format(percent)
            .with_y_tick_format(times())
            .with_x_label("share of operations that took no longer")
            .with_y_label("time")
    })
}

/// Response times of each run over its time, all on the same axes.
pub(super) fn over_time(runs: &[&(String, RunResult)]) -> Vec<Picture> {
    let all = runs.iter().flat_map(|(_, run)| &run.series);
    let (low, high) = decades(all.flat_map(|moment| [moment.p50_ns as f64, moment.max_ns as f64]));
    let end = runs.iter().map(|(_, run)| run.plan.duration_s).fold(0.0, f64::max);
    let one = |(name, run): &&(String, RunResult)| {
        let line = |number: usize, legend: &str, of: fn(&crate::result::Moment) -> u64| {
            let points: Vec<(f64, f64)> =
                run.series.iter().map(|moment| (moment.start_s, of(moment).max(1) as f64)).collect();
            Plot::from(
                LinePlot::new().with_data(points).with_color(colour(number)).with_stroke_width(1.5).with_legend(legend),
            )
        };
        let plots = vec![
            line(1, "longest", |moment| moment.max_ns),
            line(4, "p99", |moment| moment.p99_ns),
            line(0, "p50", |moment| moment.p50_ns),
        ];
        draw(&format!("{name}: response time over time"), plots, |layout| {
            layout
                .with_log_y()
                .with_x_axis_min(0.0)
                .with_x_axis_max(end)
                .with_y_axis_min(low)
                .with_y_axis_max(high)
                .with_y_tick_format(times())
                .with_x_label("seconds")
                .with_y_label("response time")
        })
    };
    runs.iter().map(one).collect()
}

/// Response times against what is done in a second.
pub(super) fn rates(sweep: &Sweep) -> Picture {
    let mut plots = Vec::new();
    let mut values = vec![sweep.objective.at_most_ns as f64];
    for (number, (p, name)) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")].into_iter().enumerate() {
        let found = sweep.points.iter().filter_map(|point| Some((point, point.percentile(p)?)));
        let (mut up, over): (Vec<_>, Vec<_>) = found.partition(|(point, _)| point.keeps_up);
        // A rate that was measured again may have achieved less.
        up.sort_by(|(one, _), (other, _)| one.achieved_per_s.total_cmp(&other.achieved_per_s));
        let places = |found: &[(&Point, &Percentile)]| -> Vec<(f64, f64)> {
            found.iter().map(|(point, at)| (point.achieved_per_s, at.value.max(1) as f64)).collect()
        };
        let end = |number: usize| -> Vec<f64> {
            up.iter().map(|(_, at)| at.interval.unwrap_or([at.value; 2])[number].max(1) as f64).collect()
        };
        let (points, low, high) = (places(&up), end(0), end(1));
        values.extend(low.iter().chain(&high).copied().chain(places(&over).iter().map(|point| point.1)));
        if points.len() > 1 {
            let band = BandPlot::new(points.iter().map(|point| point.0), low, high);
            plots.push(Plot::from(band.with_color(colour(number)).with_opacity(0.15)));
            let line = LinePlot::new().with_data(points.clone()).with_color(colour(number)).with_stroke_width(1.5);
            plots.push(line.into());
        }
        plots.push(
            ScatterPlot::new().with_data(points).with_color(colour(number)).with_size(3.5).with_legend(name).into(),
        );
        // What was too much is there, but is no part of the line.
        if !over.is_empty() {
            let legend = format!("{name}, too much offered");
            let cross = ScatterPlot::new().with_data(places(&over)).with_color(colour(number)).with_size(3.5);
            plots.push(cross.with_marker(MarkerShape::Cross).with_legend(legend).into());
        }
    }
    let (low, high) = decades(values.into_iter());
    let objective = sweep.objective;
    draw("Response time against throughput (open loop)", plots, |layout| {
        layout
            .with_log_y()
            .with_x_axis_min(0.0)
            .with_y_axis_min(low)
            .with_y_axis_max(high)
            .with_y_tick_format(times())
            .with_x_tick_format(thousands())
            .with_x_label("operations done in a second")
            .with_y_label("response time")
            .with_reference_line(
                ReferenceLine::horizontal(objective.at_most_ns as f64).with_label(objective.to_string()),
            )
    })
}

fn thousands() -> TickFormat {
    TickFormat::Custom(Arc::new(|value| {
        if value >= 1000.0 { format!("{} k", (value / 1000.0) as f32) } else { format!("{}", value as f32) }
    }))
}

/// A ratio in each round.
pub(super) fn ratios(comparison: &Comparison, statistic: Statistic) -> Option<Picture> {
    let mut plots = Vec::new();
    for (number, ratio) in comparison.ratios.iter().filter(|ratio| ratio.statistic == statistic).enumerate() {
        let rounds = ratio.rounds.iter().zip(1_u32..).map(|(ratio, round)| (f64::from(round), *ratio));
        let points: Vec<(f64, f64)> = rounds.collect();
        let ends = [0.5, ratio.rounds.len() as f64 + 0.5];
        if let Some([low, high]) = ratio.median.interval {
            plots.push(BandPlot::new(ends, [low; 2], [high; 2]).with_color(colour(number)).with_opacity(0.15).into());
        }
        let middle = LinePlot::new()
            .with_data(ends.map(|end| (end, ratio.median.value)))
            .with_color(colour(number))
            .with_dashed();
        plots.push(Plot::from(middle));
        let name = format!("{}/{}: {:.3}", ratio.of, ratio.to, ratio.median.value);
        plots.push(
            ScatterPlot::new().with_data(points).with_color(colour(number)).with_size(4.0).with_legend(name).into(),
        );
    }
    if plots.is_empty() {
        return None;
    }
    let title = match statistic {
        Statistic::Throughput => "Operations per second, ratio in each round (more is better)".into(),
        Statistic::Cpu => "The server's cpu for an operation, ratio in each round (less is better)".into(),
        time => format!("Response time, {}, ratio in each round (less is better)", time.name()),
    };
    Some(draw(&title, plots, |layout| {
        layout
            .with_x_label("round")
            .with_y_label("ratio")
            .with_reference_line(ReferenceLine::horizontal(1.0).with_label("equal"))
    }))
}

/// ring9 to each server: the ratio and its interval.
pub(super) fn forest(measured: &Measured, statistic: Statistic) -> Option<Picture> {
    let mut plot = ForestPlot::new().with_null_value(1.0);
    let mut any = false;
    for contender in &measured.comparison.contenders {
        if let Some(ratio) = measured.ratio(&contender.name, statistic) {
            let [low, high] = ratio.interval.unwrap_or([ratio.value; 2]);
            plot = plot.with_row(contender.name.as_str(), ratio.value, low, high);
            any = true;
        }
    }
    let title = match statistic {
        Statistic::Throughput => "Operations per second of ring9 to those of each (right of 1: ring9 does more)",
        _ => "Cpu for an operation of ring9 to that of each (left of 1: ring9 spends less)",
    };
    any.then(|| draw(title, vec![plot.into()], |layout| layout.with_x_label("ratio, with its interval of 95 %")))
}

/// Response times at shares of what each server reached.
pub(super) fn shares(rates: &[HeldRate]) -> Picture {
    let mut names: Vec<&str> = Vec::new();
    for held in rates {
        if !names.contains(&held.server.as_str()) {
            names.push(&held.server);
        }
    }
    let (mut plots, mut values) = (Vec::new(), Vec::new());
    for (number, name) in names.iter().enumerate() {
        let mine = rates.iter().filter(|held| held.server == *name);
        let points: Vec<(f64, f64)> = mine.filter_map(|held| Some((held.share? * 100.0, held.p99_ns?))).collect();
        values.extend(points.iter().map(|point| point.1));
        let line = LinePlot::new().with_data(points).with_color(colour(number)).with_stroke_width(2.0);
        let line = if number >= COLOURS.len() { line.with_dashed() } else { line };
        plots.push(Plot::from(line.with_legend(*name)));
    }
    let (low, high) = decades(values.into_iter());
    draw("Response time, p99, at shares of what each server reached (open loop)", plots, |layout| {
        layout
            .with_log_y()
            .with_x_axis_min(0.0)
            .with_x_axis_max(100.0)
            .with_y_axis_min(low)
            .with_y_axis_max(high)
            .with_y_tick_format(times())
            .with_x_label("% of its most in the closed loop")
            .with_y_label("response time")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_powers_of_ten_around_the_values() {
        assert_eq!(decades([12_000.0, 345_000.0].into_iter()), (10_000.0, 1_000_000.0));
        assert_eq!(decades([1000.0].into_iter()), (1000.0, 10_000.0));
        assert_eq!(decades(std::iter::empty()), (1.0, 10.0));
    }

    #[test]
    fn marks_of_an_axis_are_short() {
        assert_eq!([1e3, 1e5, 2.5e6, 500.0].map(nanoseconds_round), ["1 us", "100 us", "2.5 ms", "500 ns"]);
    }
}
