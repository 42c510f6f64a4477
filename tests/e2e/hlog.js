// Reads a log of HdrHistogram with the library of npm, and prints by tag: count, and value at each percentile of the command line.
// Usage: node hlog.js LOG PERCENT...        (needs hdr-histogram-js in NODE_PATH)
const fs = require("fs");
const hdr = require("hdr-histogram-js");

const [log, ...percents] = process.argv.slice(2);
const reader = new hdr.HistogramLogReader(fs.readFileSync(log, "utf8"));
const totals = {};
for (let histogram = reader.nextIntervalHistogram(); histogram; histogram = reader.nextIntervalHistogram()) {
  const total = (totals[histogram.tag] ??= hdr.build({ bitBucketSize: 64, highestTrackableValue: 2e11, numberOfSignificantValueDigits: 3 }));
  total.add(histogram);
}
const found = Object.entries(totals).map(([tag, total]) => [
  tag,
  { count: total.totalCount, values: percents.map((percent) => total.getValueAtPercentile(Number(percent))) },
]);
console.log(JSON.stringify(Object.fromEntries(found)));
