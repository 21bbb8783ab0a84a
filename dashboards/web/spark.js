// A line of a few values, without axes: in a table row.

import { setAttribute, svg } from "./dom.js";

const WIDTH = 96;
const HEIGHT = 20;
const EDGE = 2;

export const make = () =>
  svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, svg("path"));

/** Draws `values`, 0 to `most`; a value without neighbours is a dot, and where there is none (null) there is a gap. */
export function draw(spark, values, most) {
  const step = (WIDTH - 2 * EDGE) / Math.max(1, values.length - 1);
  const parts = [];
  values.forEach((value, i) => {
    if (value === null) return;
    const goesOn = i > 0 && values[i - 1] !== null;
    const x = (EDGE + i * step).toFixed(1);
    const y = (HEIGHT - EDGE - (value / (most || 1)) * (HEIGHT - 2 * EDGE)).toFixed(1);
    parts.push(goesOn ? `L${x} ${y}` : `M${x} ${y}h.01`);
  });
  setAttribute(spark.firstElementChild, "d", parts.join(""));
}
