// The state of the page is its address. A view is its query parameters; whatever is changed is a new address.

export const LABELS = ["segment", "version", "actor", "actor_kind"];
const ASKED = ["range", "since", "until", "by", ...LABELS, "find", "top", "rate"];
const OURS = ["sort", "rows"];
const USUAL = { range: "1h", by: "segment", top: "8", rate: "plain" };
const ROOT = new URL("..", import.meta.url);

/** What the address says now, and nothing that is no parameter of this page. */
export function current() {
  const given = new URLSearchParams(location.search);
  return kept(given, [...ASKED, ...OURS]);
}

/** The parameter, or what is meant without it. */
export const get = (view, name) => view.get(name) ?? USUAL[name] ?? null;

/** The view with these changes: a value, a list of values, or null for without. An empty label is one to filter by. */
export function changed(view, changes) {
  const made = new URLSearchParams(view);
  for (const [name, value] of Object.entries(changes)) {
    made.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && (one !== "" || LABELS.includes(name)) && one !== USUAL[name]) made.append(name, one);
    }
  }
  return kept(made, [...ASKED, ...OURS]);
}

/** Another range of time: `range`, or `since` and `until`. */
export const inRange = (view, times) => changed(view, { range: null, since: null, until: null, ...times });

/** What the server is asked. */
export const asked = (view) => kept(view, ASKED);

/** One order of parameters, so that equal views have equal addresses. */
function kept(view, names) {
  const made = new URLSearchParams();
  for (const name of names) for (const value of view.getAll(name)) made.append(name, value);
  return made;
}

export const href = (view) => `?${view}`;

export const api = (path, view) => new URL(`api/v1/${path}?${view}`, ROOT).href;

/** The page of a task. A lone surrogate has no place in an address. */
export const episode = (task) => new URL(`episodes/${segment(task)}`, ROOT).href;

export const episodeData = (task) => new URL(`api/v1/episodes/${segment(task)}`, ROOT).href;

const segment = (text) => encodeURIComponent(text.replace(/\p{Surrogate}/gu, "\uFFFD"));

/** The task that this page is about. */
export function taskOfAddress() {
  const path = location.pathname;
  return decodeURIComponent(path.slice(path.indexOf("/episodes/") + "/episodes/".length));
}

const listeners = [];

export function onChange(listener) {
  listeners.push(listener);
}

/** Go to this view; `replace` where it only refines the one before, as while somebody types. */
export function go(view, replace = false) {
  const search = view.toString() ? href(view) : location.pathname;
  if (view.toString() !== current().toString()) history[replace ? "replaceState" : "pushState"](null, "", search);
  for (const listener of listeners) listener(current());
}

addEventListener("popstate", () => {
  for (const listener of listeners) listener(current());
});

/** A link within the page is followed without loading it again; with a key held it is the browser's. */
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='?']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(new URLSearchParams(link.getAttribute("href")));
});
