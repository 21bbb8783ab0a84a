// Making and changing elements. Text only ever becomes text: nothing here, or on any page, reads text as markup.

export const byId = (id) => document.getElementById(id);

/** An element with these attributes (false and null: without) and children; strings become text. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) setAttribute(node, key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A text from an event, which writes from right to left or overrides its direction without moving its neighbours. */
export const label = (text, attributes = {}) => el("bdi", attributes, shortened(text, 120));

export function shortened(text, most) {
  const whole = String(text ?? "");
  return whole.length > most ? `${whole.slice(0, most)}…` : whole;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
}

/** Shows or hides without asking the browser to lay out again where nothing changes. */
export function setShown(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

const known = new WeakMap();

/**
 * Gives `parent` one child for each item, in their order. Children are made once for each key, updated in place,
 * moved only where the order changed, and removed when their item is gone.
 */
export function reconcile(parent, items, keyOf, make, update) {
  const before = known.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!now.has(key)) now.set(key, { item, node: before.get(key) ?? make(item) });
  }
  for (const [key, node] of before) if (!now.has(key)) node.remove();
  let place = parent.firstElementChild;
  const kept = new Map();
  for (const [key, { item, node }] of now) {
    kept.set(key, node);
    update?.(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  known.set(parent, kept);
}
