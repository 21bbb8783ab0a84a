// What a model read and said, as text, as JSON and as a chat. All of it is text from elsewhere and stays text.

import { el, label, shortened } from "./dom.js";
import { count } from "./number.js";

const MOST = 20000; // characters that are shown at once: a megabyte is slow to lay out
const FOLDED = 12; // lines
const LONG = 150; // characters
const CHAT = "application/vnd.flyback.chat+json";

/** An element that shows a Content, or that there is none. */
export function show(content) {
  if (!content) return el("p", { class: "none" }, "none given");
  const { content_type: type, body, cut } = content;
  const made = el("div", { class: "content" }, ...(parts(type ?? "", String(body ?? ""))));
  if (cut) made.append(el("p", { class: "note" }, "Cut here; the episode has all of it."));
  return made;
}

function parts(type, body) {
  const parsed = type.includes("json") ? parse(body) : undefined;
  if (type === CHAT && Array.isArray(parsed)) return [chat(parsed)];
  if (parsed !== undefined) return [folded(pretty(body))];
  return [text(body)];
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return undefined; // cut, or not what it says: shown as the text that it is
  }
}

function text(body) {
  // a long one may scroll, which a keyboard can do only where it can be focused
  const scrolls = body.length > LONG || body.includes("\n");
  const shown = el("pre", { class: "text", dir: "auto", tabindex: scrolls ? "0" : null }, body.slice(0, MOST));
  if (body.length <= MOST) return body === "" ? el("p", { class: "none" }, "empty") : shown;
  const more = el("button", { type: "button", class: "quiet" }, `Show all ${count(body.length)} characters`);
  more.addEventListener("click", () => {
    shown.textContent = body;
    more.remove();
  });
  return el("div", {}, shown, more);
}

function folded(lines) {
  const long = lines.split("\n", FOLDED + 1).length > FOLDED;
  if (!long) {
    const shown = text(lines);
    if (!/\s\s/.test(lines.replace(/\n */g, " "))) shown.classList.add("flat"); // no space in it would be lost on one line
    return shown;
  }
  const details = el("details", { class: "json" }, el("summary", {}, el("code", {}, shortened(lines.replace(/\s+/g, " "), 80))));
  details.addEventListener("toggle", () => details.children.length === 1 && details.append(text(lines)), { once: true });
  return details;
}

/** The same JSON on lines of its own. Its numbers and texts are not touched: 1.10 and 12345678901234567890 stay. */
export function pretty(json) {
  let depth = 0;
  let made = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const empty = (token === "}" && made.endsWith("{")) || (token === "]" && made.endsWith("["));
    if (token === "}" || token === "]") {
      depth -= 1;
      made += empty ? token : line() + token;
    } else {
      const first = made.endsWith("{") || made.endsWith("[");
      made += (first ? line() : "") + token;
      if (token === "{" || token === "[") depth += 1;
      if (token === ",") made += line();
      if (token === ":") made += " ";
    }
  }
  return made;
}

const ROLES = ["system", "developer", "user", "assistant", "tool"];

function chat(messages) {
  return el("ol", { class: "chat" }, ...messages.map((message) => {
    if (message === null || typeof message !== "object") return el("li", {}, json(message));
    const { role, content, name, ...rest } = message;
    const who = el("p", { class: "role" }, label(role ?? "no role"), name === undefined ? "" : " ", name === undefined ? null : label(name));
    const said = Array.isArray(content) ? content.map(piece) : content === null || content === undefined ? [] : [typeof content === "string" ? text(content) : json(content)];
    const others = Object.entries(rest).map(([key, value]) => el("div", { class: "extra" }, el("p", { class: "role" }, label(key)), json(value)));
    return el("li", { "data-role": ROLES.includes(role) ? role : "other" }, who, ...said, ...others);
  }));
}

/** A part of a message: text, or an image or the like, which is named and not fetched. */
const piece = (part) => (part?.type === "text" && typeof part.text === "string" ? text(part.text) : json(part));

const json = (value) => folded(JSON.stringify(value, null, 2) ?? "null");
