// Failure rate over time, drawn by uPlot: a line for each series, its interval as a band, marks where something happened.

import { current, get, go, inRange } from "./address.js";
import { byId, el, setAttribute, setText } from "./dom.js";
import * as legend from "./legend.js";
import { iso, percent, steps, timeSpan } from "./number.js";

const COLORS = 8; // then dashed ones
const DAY = 86400;
const TOPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1];

const box = byId("plot");
const slots = new Map(); // which colour a line has: the same for as long as it is there
let plot = null;
let shape = "";
let part = null;
let lines = [];
let lit = null; // the key of the line that somebody points at

export function show(data, view) {
  part = data;
  lines = placed(data.series);
  const spans = part.starts.length ? timeSpan(part.starts[0], part.starts.at(-1) + part.step) : "";
  legend.show({ part, lines, weighted: get(view, "rate") === "weighted", light });
  const worst = lines.length ? `; the worst is ${lines[0].name}, ${percent(lines[0].rate?.value)}` : "";
  setAttribute(box, "aria-label", `Failure rate, ${spans}: ${lines.length} lines${worst}. The same is below as a table.`);
  setText(byId("step"), `each point: ${steps(part.step)}${part.running ? "; a ring: not over yet" : ""}`);
  draw();
}

function placed(series) {
  const keys = series.map((line) => JSON.stringify(line.labels));
  for (const key of [...slots.keys()]) if (!keys.includes(key)) slots.delete(key);
  return series.map((line, i) => {
    if (!slots.has(keys[i])) {
      const taken = new Set(slots.values());
      let free = 0;
      while (taken.has(free)) free += 1;
      slots.set(keys[i], free);
    }
    return { ...line, key: keys[i], slot: slots.get(keys[i]) };
  });
}

function draw() {
  if (!box.clientWidth) return; // not shown: there is nothing to see in this range
  const drawn = [...lines].sort((a, b) => a.slot - b.slot);
  const middles = part.starts.map((start) => start + part.step / 2);
  const data = [middles, ...drawn.flatMap((line) => [over(line.value), over(line.low), over(line.high), running(line.value)])];
  const wanted = drawn.map((line) => `${line.slot}${line.key}`).join();
  if (plot && wanted === shape) {
    plot.setData(data);
    return;
  }
  plot?.destroy();
  shape = wanted;
  plot = new uPlot(options(drawn), data, box);
}

/** Without the step that is not over: a few reviews at its begin would make the line leap. */
const over = (values) => (part.running ? values.map((value, i) => (i === values.length - 1 ? null : value)) : values);

const running = (values) => values.map((value, i) => (part.running && i === values.length - 1 ? value : null));

function options(drawn) {
  const style = getComputedStyle(box);
  const font = `12px ${style.fontFamily}`;
  const axis = { stroke: style.color, font, grid: { stroke: style.outlineColor, width: 1 }, ticks: { stroke: style.outlineColor, width: 1, size: 4 } };
  const colors = drawn.map((line) => colorOf(`s${line.slot % COLORS}`));
  const series = drawn.flatMap((line, i) => {
    const dash = line.slot >= COLORS ? [6, 4] : undefined;
    const stroke = () => faded(colors[i], lit === null || lit === line.key ? 1 : 0.2);
    const edge = { points: { show: false }, width: 0 };
    const ring = { stroke, width: 2, paths: () => null, points: { size: 8, width: 2, show: true, stroke, fill: style.backgroundColor } };
    return [{ label: line.name, stroke, width: 2, dash, points: { size: 5, show: true, filter: alone, fill: stroke } }, edge, edge, ring];
  });
  const usual = drawn.length > 3 ? 0.05 : drawn.length > 1 ? 0.09 : 0.16; // one over the other they make mud
  const bands = drawn.map((line, i) => ({
    series: [4 * i + 3, 4 * i + 2],
    fill: () => faded(colors[i], lit === null ? usual : lit === line.key ? 0.25 : 0),
  }));
  return {
    width: box.clientWidth,
    height: box.clientHeight,
    padding: [14, 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
    scales: {
      x: { range: () => [part.starts[0] ?? 0, (part.starts.at(-1) ?? 0) + part.step] },
      y: { range: () => [0, highest()] },
    },
    axes: [{ ...axis, values: times, space: 64, size: axisHeight }, { ...axis, values: (_, splits) => splits.map(short), size: 46 }],
    series: [{}, ...series],
    bands,
    hooks: {
      draw: [drawMarks],
      setCursor: [(chart) => legend.at(chart.cursor.left >= 0 ? chart.cursor.idx : null)],
      setSelect: [choose],
    },
  };
}

/** The rates fit, and nearly all of their intervals: those of a handful of reviews would leave no room for the others. */
function highest() {
  const highs = lines.flatMap((line) => over(line.high).filter((high) => high !== null)).sort((a, b) => a - b);
  const values = lines.flatMap((line) => over(line.value));
  const most = Math.max(0, ...values, highs[Math.floor(highs.length * 0.9)] ?? 1);
  return TOPS.find((top) => top >= most) ?? 1;
}

/** Points only where no line would be: without a neighbour on either side. */
function alone(chart, index) {
  const values = chart.data[index];
  const found = [];
  values.forEach((value, i) => {
    if (value !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) found.push(i);
  });
  return found;
}

function times(chart, splits, _, __, step) {
  const days = chart.scales.x.max - chart.scales.x.min > DAY;
  let last = null;
  return splits.map((split) => {
    const then = new Date(split * 1000);
    const date = then.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    const text = step >= DAY ? date : then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    const withDay = days && step < DAY && date !== last;
    last = date;
    return withDay ? `${text}\n${date}` : text;
  });
}

/** Room for the days below the times, where there are any. */
const axisHeight = (_, values) => (values?.some((value) => value?.includes("\n")) ? 42 : 28);

const short = (share) => `${Number((share * 100).toFixed(1))}%`;

/** What a class is coloured, in this theme. */
function colorOf(name) {
  const probe = el("i", { class: name });
  box.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const faded = (color, alpha) => (alpha === 1 ? color : color.replace("rgb(", "rgba(").replace(")", `, ${alpha})`));

function drawMarks(chart) {
  const { ctx, bbox } = chart;
  const colors = { version: colorOf("mark-version"), alert: colorOf("mark-alert") };
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.textAlign = "center";
  ctx.font = `${11 * devicePixelRatio}px sans-serif`;
  for (const mark of part.marks) {
    const x = Math.round(chart.valToPos(mark.at, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = colors[mark.kind] ?? colors.version;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillText(legend.SIGNS[mark.kind] ?? "•", x, bbox.top - 3 * devicePixelRatio);
  }
  ctx.restore();
}

/** Whoever drags over the chart wants to see that range: whole minutes. */
function choose(chart) {
  if (chart.select.width < 4) return;
  const [since, until] = [chart.select.left, chart.select.left + chart.select.width].map((x) => chart.posToVal(x, "x"));
  chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  const first = Math.floor(since / 60) * 60;
  go(inRange(current(), { since: iso(first), until: iso(Math.max(first + 60, Math.ceil(until / 60) * 60)) }));
}

/** Let one line stand out; null: none. */
function light(key) {
  if (lit === key) return;
  lit = key;
  plot?.redraw(false);
}

new ResizeObserver(() => {
  if (!part || !box.clientWidth) return;
  if (plot) plot.setSize({ width: box.clientWidth, height: box.clientHeight });
  else draw();
}).observe(box);

document.documentElement.addEventListener("theme", () => {
  shape = "";
  if (part) draw();
});

