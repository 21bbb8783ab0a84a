// "How is this computed": for each number its meaning in words, and the SQL that gives the same from the lake.

import { byId, el, setShown, setText } from "./dom.js";
import { steps } from "./number.js";

const INTERVAL = "The interval is Wilson's 95 % one: of a hundred such intervals some 95 hold the true rate, if the " +
  "reviewed predictions are a fair sample. Few reviews make it wide.";
const FAILS = "A prediction fails when the correction that wins (higher authority, then the later one) is CORRECTED or " +
  "REJECTED; without a correction, when its latest grade with a verdict says that it did not pass.";

// title, paragraphs, the part whose SQL it is
const TOPICS = {
  rate: ["Failure rate", ["Failures divided by reviewed predictions, of those made in the range.", FAILS, INTERVAL], "headline"],
  change: ["Change", ["The rate of this range minus that of the range of the same length before it, in percentage points.",
    "Its 95 % interval is Newcombe's (1998, method 10), from the Wilson intervals of both. Where it holds 0, the " +
    "difference may be chance. The page computes it; the SQL gives the counts of this range."], "headline"],
  predictions: ["Predictions", ["All predictions made in the range, by models and by people, reviewed or not."], "headline"],
  reviewed: ["Reviewed", ["Predictions with a correction, or with a grade that has a verdict. A prediction counts once, " +
    "however many reviewed it."], "headline"],
  failures: ["Failures", [FAILS], "headline"],
  weighted: ["All predictions, weighted", ["What the failure rate of all predictions would be, reviewed or not: each " +
    "review counts 1/p, where p is the probability with which its prediction was chosen for review " +
    "(sampling_probability): Σw·y / Σw, w = 1/p (Hájek).", "Reviews that do not say p are left out. Its interval is " +
    "Wilson's for the number of reviews that, unweighted, would have the same variance."], "headline"],
  latency: ["Latency, correction to example", ["From when a prediction and its correction were both in Kafka to when the training " +
    "example made of them was there too. Of the newest 1,000 examples, whatever the range: half took at most the figure " +
    "that is shown large, 99 of 100 at most the one below it."], "headline.latency"],
  chart: ["Failure rate over time", ["One line for each combination of what is chosen under “by”; the worst first, by the " +
    "lower end of the interval. The band is the 95 % interval of each point.", "How far points are apart follows from how " +
    "much is reviewed, so that most of them stand on 20 reviews or more. The first may begin a little before the range.",
    "A prediction counts in the minute in which it was made: late reviews change the past. Where nothing was reviewed " +
    "there is no point."], "chart"],
  table: ["Segments and versions", ["One row for each segment, version and actor, the worst first by what the rate is at " +
    "least: three failures of three reviews tell less than 300 of 900.", FAILS, INTERVAL], "table"],
  episodes: ["Newest failures", [FAILS, "The newest predictions of the range that failed, from the lake, with the review " +
    "that decided."], "failures"],
  episode: ["Episode", ["All predictions, corrections and grades of this task that the lake has, in the order of their own " +
    "times.", FAILS], "episode"],
  health: ["Pipeline", ["Lag: how many events a process has not read yet of what is in Kafka, and how old the oldest of " +
    "them is. It comes from the consumer group and the ends of the topics.", "Dead letters: records that could not be " +
    "taken, with the reason, from the lake's table dead_letters.", "Last commit: when worker and sink last wrote."], "health"],
};

const queries = new Map();
let step = null; // of the chart, seconds

/** Remember the queries of a part. */
export function know(part, data) {
  if (data?.sql) queries.set(part, data.sql);
  if (part === "chart") step = data?.step ?? null;
  if (data?.latency?.sql) queries.set(`${part}.latency`, data.latency.sql);
}

/** A button that opens the explanation of this topic. */
export function button(topic) {
  const [title] = TOPICS[topic];
  const made = el("button", { type: "button", class: "explain", "aria-label": `${title}: how is this computed?` }, "?");
  made.addEventListener("click", () => open(topic));
  return made;
}

export function start() {
  for (const place of document.querySelectorAll("[data-explain]")) {
    place.append(button(place.dataset.explain));
  }
  const dialog = byId("explain");
  byId("explain-close").addEventListener("click", () => dialog.close());
  byId("explain-copy").addEventListener("click", copy);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

function open(topic) {
  const [title, paragraphs, part] = TOPICS[topic];
  const sql = queries.get(part);
  setText(byId("explain-title"), title);
  const now = topic === "chart" && step ? [`Each point is of ${steps(step)} now.`] : [];
  byId("explain-text").replaceChildren(...[...paragraphs, ...now].map((text) => el("p", {}, text)));
  setText(byId("explain-sql"), sql ?? "");
  setShown(byId("explain-query"), Boolean(sql));
  setShown(byId("explain-copy"), Boolean(sql));
  setText(byId("explain-copied"), "");
  byId("explain").showModal();
}

async function copy() {
  const query = byId("explain-sql");
  try {
    await navigator.clipboard.writeText(query.textContent);
  } catch {
    // without a secure address there is no clipboard but the old one
    getSelection().selectAllChildren(query);
    document.execCommand("copy");
  }
  setText(byId("explain-copied"), "Copied");
}
