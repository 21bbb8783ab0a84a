// Alerts that are open, and those that were lately.

import { byId, el, label, reconcile, setAttribute, setShown, setText } from "./dom.js";
import { iso, time } from "./number.js";

const STATES = { PENDING: "pending", FIRING: "firing", RESOLVED: "resolved" };

export function show(part) {
  setShown(byId("alerts-none"), part.open.length === 0);
  setText(byId("alerts-none"), "No open alerts.");
  setAttribute(byId("alerts"), "data-firing", part.open.some((alert) => alert.state === "FIRING"));
  reconcile(byId("alerts-open"), part.open, (alert) => `${alert.alert_id} ${alert.state}`, make, say);
  setShown(byId("alerts-recent-box"), part.recent.length > 0);
  reconcile(byId("alerts-recent"), part.recent, (alert) => `${alert.alert_id} ${alert.state} ${alert.since}`, make, say);
}

function make(alert) {
  const labels = [alert.segment, alert.actor, alert.version].filter(Boolean).map((text) => label(text, { class: "tag" }));
  return el("li", { class: "alert", "data-state": STATES[alert.state] ?? null },
    el("b", { class: "alert-state" }, STATES[alert.state] ?? alert.state), " ", label(alert.rule, { class: "rule" }), " ",
    ...labels.flatMap((tag) => [tag, " "]), el("bdi", { class: "message" }), " ",
    el("time", { datetime: iso(alert.since), title: iso(alert.since) }, `since ${time(alert.since)}`));
}

/** The message carries figures, which move while the alert stays. */
function say(node, alert) {
  setText(node.querySelector(".message"), alert.message ?? "");
}
