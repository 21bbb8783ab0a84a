// The page of one task: everything that was said of it, in the order in which it happened.

import { episodeData, taskOfAddress } from "./address.js";
import { errorOf } from "./connection.js";
import * as content from "./content.js";
import { byId, el, label, setText, shortened } from "./dom.js";
import * as explain from "./explain.js";
import { actor } from "./failures.js";
import { count, iso, time } from "./number.js";

const VERDICTS = { CONFIRMED: "confirmed", CORRECTED: "corrected", REJECTED: "rejected" };

function start() {
  const task = taskOfAddress();
  setText(byId("task"), shortened(task, 120));
  document.title = `Episode ${shortened(task, 40)} · Flyback`;
  explain.start();
  byId("reload").addEventListener("click", () => read(task));
  try {
    byId("back").setAttribute("href", `../${sessionStorage.getItem("view") ?? ""}`);
  } catch {
    // then it leads to the start
  }
  read(task);
}

async function read(task) {
  setText(byId("summary"), "Reading…");
  try {
    const answer = await fetch(episodeData(task));
    if (answer.status === 404) {
      setText(byId("summary"), "The lake has no event of this task. The newest arrive there with the sink's next commit: look again in a moment.");
      byId("events").replaceChildren();
      return;
    }
    if (!answer.ok) throw new Error(await errorOf(answer));
    show(await answer.json());
  } catch (error) {
    setText(byId("summary"), `It cannot be had: ${error.message}. Look again in a moment.`);
  }
}

function show(episode) {
  explain.know("episode", episode);
  setText(byId("summary"), said(episode));
  const winners = new Set((episode.winners ?? []).map((winner) => winner.correction_id));
  byId("events").replaceChildren(...episode.events.map((event) => shown(event, winners)));
}

function said(episode) {
  const of = (kind) => episode.events.filter((event) => event.kind === kind).length;
  const parts = [["prediction", of("prediction")], ["correction", of("correction")], ["grade", of("grade")]];
  const counts = parts.filter(([, number]) => number).map(([kind, number]) => `${count(number)} ${kind}${number === 1 ? "" : "s"}`);
  const end = episode.reviewed ? (episode.failed ? "it failed" : "it did not fail") : "it is not reviewed";
  return `${counts.join(", ")}: ${end}.`;
}

function shown(event, winners) {
  const who = event.actor ?? event.author;
  const wins = event.kind === "correction" && winners.has(event.id);
  const verdict = event.kind === "grade" && typeof event.passed === "boolean" ? (event.passed ? "passed" : "not passed") : VERDICTS[event.verdict];
  const head = el("header", {}, el("h2", {}, { prediction: "Prediction", correction: "Correction", grade: "Grade" }[event.kind] ?? event.kind),
    verdict ? el("b", { class: "verdict-tag", "data-verdict": verdict }, verdict) : null, wins ? el("span", { class: "tag" }, "decides") : null,
    who ? el("span", {}, "by ", label(actor(who.name, who.version)), who.kind === "HUMAN" ? " (person)" : " (model)") : null,
    el("time", { datetime: iso(event.at), title: iso(event.at) }, time(event.at, true)));
  return el("li", { class: "event panel", "data-kind": event.kind }, el("article", {}, head, ...stories(event), facts(event)));
}

function stories(event) {
  const output = event.kind === "correction" ? event.truth ?? event.output : event.output;
  const given = [["Input", event.input], ...(event.context ?? []).map((one, i) => [`Context ${i + 1}`, one]),
    [event.kind === "prediction" ? "Output" : "The truth", output]];
  const made = given.filter(([, what]) => what).map(([title, what]) => el("div", {}, el("h3", {}, title), content.show(what)));
  for (const [title, text] of [["Reason", event.reason], ["Rationale", event.rationale]]) {
    if (text) made.push(el("div", {}, el("h3", {}, title), content.show({ content_type: "text/plain", body: text })));
  }
  return made.length ? [el("div", { class: "story" }, ...made)] : [];
}

/** The rest, by name. */
function facts(event) {
  const given = [
    ["Segment", event.segment],
    ["Category", event.category],
    ["Confidence", event.confidence],
    ["Authority", event.authority],
    ["Rubric", event.rubric],
    ...(event.scores ?? []).map((score) => [score.criterion, `${score.score} of ${score.max_score}`]),
    ["Of the prediction", event.kind === "prediction" ? null : event.prediction_id],
    ["Id", event.id],
    ...pairs(event.attributes),
  ];
  const named = given.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, ...named.map(([name, value]) => el("div", {}, el("dt", {}, label(name)), el("dd", {}, label(value)))));
}

/** Attributes, which a lake has as a list of keys and values. */
function pairs(attributes) {
  if (!attributes) return [];
  return Array.isArray(attributes) ? attributes.map(({ key, value }) => [key, value]) : Object.entries(attributes);
}

start();
