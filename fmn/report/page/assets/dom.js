// Elements, and how values are written. Text goes into the page as text nodes and attributes only,
// never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

/** Make an element; attributes that start with "on" are listeners, strings become text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** A name that somebody else chose: marks of direction in it turn nothing outside of it. */
function name(text, attributes = {}) {
  return el("bdi", { dir: "auto", title: text.length > 30 && text, ...attributes }, text);
}

function joined(items, separator) {
  return items.flatMap((item, index) => (index ? [separator, item] : [item]));
}

/** Write a score or a ratio times 100. */
function percent(value, digits = 2) {
  return value == null ? "–" : (100 * value).toFixed(digits).replace("-", "−");
}

/** Write an interval times 100. */
function ends(interval, digits = 2) {
  return interval ? interval.map((end) => percent(end, digits)).join(" to ") : "no interval";
}

function number(value) {
  return value == null ? "–" : value.toLocaleString("en");
}

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${(1000 * seconds).toFixed(0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

function when(iso, length = 16) {
  return el("time", { datetime: iso, title: iso }, iso.slice(0, length).replace("T", " "));
}

/** A table in a box of its own, which scrolls sideways where the page is narrow. */
function table(caption, headings, rows, attributes = {}) {
  const head = headings.map((heading) =>
    el("th", { scope: "col", class: heading.class }, heading.text ?? heading),
  );
  const line = (cells) =>
    el(
      "tr",
      {},
      cells.map((cell, index) => {
        const attributes = { class: headings[index].class };
        return index ? el("td", attributes, cell) : el("th", { scope: "row", ...attributes }, cell);
      }),
    );
  const body = el("tbody", {}, rows.map(line));
  return box(
    caption,
    el(
      "table",
      attributes,
      el("caption", { class: "hidden" }, caption),
      el("thead", {}, el("tr", {}, head)),
      body,
    ),
  );
}

/** A box that scrolls, and that the keyboard reaches so that it can be scrolled. */
function box(label, ...children) {
  return el("div", { class: "box", role: "region", "aria-label": label, tabindex: 0 }, children);
}

function facts(entries) {
  const shown = entries.filter(([, value]) => value != null && value !== "" && value.length !== 0);
  return el(
    "dl",
    { class: "facts" },
    shown.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))),
  );
}

function section(title, id, ...children) {
  return el("section", { "aria-labelledby": id }, el("h2", { id, tabindex: -1 }, title), children);
}

/** A line that can be copied. */
function copyable(text, label) {
  const line = el("code", {}, text);
  const button = el(
    "button",
    { type: "button", class: "copy", "aria-label": `Copy ${label}` },
    "Copy",
  );
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(line);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return el("div", { class: "copyable" }, line, button);
}
