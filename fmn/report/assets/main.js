// Addresses, the theme, and the frame around the views.

const main = document.getElementById("main");
const SECTIONS = { "": "leaderboard", compare: "compare", models: "models", runs: "runs" };
const scrolled = new Map(); // address → how far down it was when it was left
let lastQuery = ""; // of the leaderboard, for the ways back to it
let shown = ""; // the address whose view is there
let followed = false; // a link was, rather than the browser's way back

function parsed(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s);
  const [view, key] = path.split("/");
  return { view, key, query };
}

function route() {
  const left = shown;
  shown = location.hash;
  const { view, key, query } = parsed(shown);
  if (view in SECTIONS) showHome(view, query, left);
  else if (view === "merge") showOne(find(DATA.merges, key), mergeView, titleOf, "merge");
  else if (view === "model") showOne(find(DATA.models, key), modelView, (model) => model.name, "model");
  else showOne(null, null, null, "page");
  if (!followed) goBack(left);
  followed = false;
}

function showHome(view, query, left) {
  const anew = !document.getElementById("leaderboard") || (view === "" && query !== lastQuery.slice(1));
  if (view === "" && anew) lastQuery = query && `?${query}`;
  if (anew) show(() => home(chosenFrom(lastQuery.slice(1)), chose));
  document.title = "fmn report";
  markSection(view);
  if (followed || !left) focusOn(document.getElementById(SECTIONS[view]), view !== "" || followed);
}

/** Keep what is chosen in the address, so that it can be sent to somebody and is there on the way back. */
function chose(state) {
  lastQuery = queryOf(state);
  shown = `#/${lastQuery}`;
  history.replaceState(null, "", shown);
}

function showOne(item, view, title, kind) {
  show(() => (item ? view(item) : missing(kind)));
  document.title = item ? `${title(item)} · fmn report` : "fmn report";
  markSection(null);
  if (followed) scrollTo(0, 0);
  document.getElementById("title").focus({ preventScroll: true });
}

function missing(kind) {
  return [
    el("h2", { id: "title", tabindex: -1 }, `No such ${kind}`),
    el("p", {}, "This report has none with that address, or several. ", el("a", { href: "#/" }, "Back to the leaderboard")),
  ];
}

function show(make) {
  forget();
  main.replaceChildren(...make());
}

function focusOn(heading, scroll) {
  heading.focus({ preventScroll: true });
  if (scroll) (heading.id === "leaderboard" ? main : heading).scrollIntoView();
}

/** The browser's way back leads to where one was, and to the link that one had followed. */
function goBack(left) {
  if (scrolled.has(shown)) scrollTo(0, scrolled.get(shown));
  const link = left && [...main.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === left);
  if (link) link.focus({ preventScroll: true });
}

function markSection(view) {
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#/${view}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function startTheme() {
  const input = document.getElementById("theme");
  const root = document.documentElement;
  const apply = (value) => {
    if (value) root.dataset.theme = value;
    else delete root.dataset.theme;
    redraw();
  };
  try {
    input.value = localStorage.getItem("fmn-theme") ?? "";
  } catch {
    // a browser that keeps nothing for a page from a file
  }
  if (input.value) apply(input.value);
  input.addEventListener("change", () => {
    apply(input.value);
    try {
      localStorage.setItem("fmn-theme", input.value);
    } catch {
      // as above
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

function start() {
  history.scrollRestoration = "manual";
  const titles = { "": "Leaderboard", compare: "Comparison", models: "Models", runs: "Runs" };
  document.getElementById("nav").append(...Object.entries(titles).map(([view, title]) => el("a", { href: `#/${view}` }, title)));
  document.getElementById("foot").append(el("p", {}, `Made by fmn ${DATA.version}. This page is one file; it loads nothing.`));
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#/']");
    if (!link) return;
    scrolled.set(shown, scrollY);
    followed = true;
    if (link.getAttribute("href") === location.hash) route();
  });
  addEventListener("hashchange", route);
  addEventListener("scroll", hideTip, { passive: true });
  startTheme();
  route();
}

start();
