// What a reader does with the page: sort, filter, switch, choose, hover, save.

const drawn = JSON.parse(document.getElementById("drawn").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const switches = document.querySelector(".switches");
const tip = document.getElementById("tip");
const hidden = new Set(); // rows that the key of figures has switched off

// Switches and the filter

const wanted = (field) => switches.elements[field]?.value ?? "";
const words = () => wanted("words").toLowerCase().split(/[\s,]+/).filter(Boolean);
const named = (name) => !words().length || words().some((word) => name.toLowerCase().includes(word));
const fits = (node, field) => !wanted(field) || !(field in node.dataset) || node.dataset[field] === wanted(field);
const chosen = (node) => ["benchmark", "protocol", "scenario"].every((field) => fits(node, field));

function choose() {
  for (const node of all("section[data-protocol]")) node.hidden = !chosen(node);
  const places = new Set(all("section[data-of]").filter(chosen).map((node) => node.dataset.of));
  for (const node of all("[data-of]:not(section)")) node.hidden = !places.has(node.dataset.of);
  for (const row of all("tr[data-row]")) row.hidden = !named(row.dataset.row) || !chosen(row);
  for (const place of all("span[data-benchmark]")) place.hidden = !chosen(place);
  for (const part of all(".part")) part.hidden = !part.querySelector("[data-benchmark]:not([hidden])");
  const rows = all("tr[data-row]", document.querySelector("table"));
  const count = rows.filter((row) => !row.hidden).length;
  const settings = `${places.size} of ${drawn.sections.length} settings`;
  switches.querySelector("output").textContent = `${count} of ${rows.length} methods, ${settings}`;
  draw();
}

// Tables that sort

function sortBy(head, order = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending") {
  const table = head.closest("table"), body = table.tBodies[0];
  const down = order === "ascending" ? 1 : -1; // numbers: the largest first
  const column = columnOf(head);
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const number = (text) => (text === "" ? NaN : Number(text.replace("−", "-").split(" ±")[0]));
  const compare = (a, b) => {
    const [p, q] = [value(a), value(b)], [x, y] = [number(p), number(q)];
    if (isNaN(x) && isNaN(y)) return -down * p.localeCompare(q);
    return isNaN(x) - isNaN(y) || down * (x - y); // what has no number comes last
  };
  for (const other of all("[aria-sort]", table)) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down < 0 ? "descending" : "ascending");
  body.append(...[...body.rows].sort(compare));
  rememberView();
}

function columnOf(head) {
  const [first, second] = head.closest("thead").rows;
  if (head.parentElement === second) return 1 + [...second.cells].indexOf(head); // below the head that spans two rows
  return second ? 0 : [...first.cells].indexOf(head);
}

for (const head of all("th[data-sort]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => sortBy(head));
  head.append(button);
}

// Figures

const figureOf = (section, chart) => section.querySelector(`[data-chart=${chart}]`);
const drawable = all("section[data-of]").filter((section) => section.querySelector(".figures"));
const chartsOf = (section) => drawn.sections[section.dataset.of];

function options(figure, names) {
  const select = figure.querySelector("select");
  for (const name of names) select.append(new Option(name.length > 40 ? name.slice(0, 39) + "…" : name, name));
  select.addEventListener("change", () => draw());
  return select;
}

function offer(section) {
  const {rows} = chartsOf(section), names = rows.map((row) => row.name);
  const competing = rows.filter((row) => !row.upper && row.acc[0] !== null).sort((a, b) => b.acc[0] - a.acc[0]);
  const best = (competing[0] ?? rows[0]).name;
  const reporting = (what) => rows.filter((row) => Object.keys(row[what]).length).map((row) => row.name);
  const offers = {difference: names, matrix: names, rank: reporting("ranks"), bound: reporting("bounds"),
    confusion: reporting("confusion")};
  for (const [chart, found] of Object.entries(offers)) {
    const figure = figureOf(section, chart), select = options(figure, found);
    figure.hidden = found.length < (chart === "difference" ? 2 : 1);
    if (found.includes(best)) select.value = best;
  }
  const prices = drawn.prices.filter((price) => rows.some((row) => row.prices[price][0] !== null));
  options(figureOf(section, "trade"), prices);
  section.querySelector(".key").append(...rows.map(keyOf));
}

function keyOf(row) {
  const item = document.createElement("li"), button = document.createElement("button");
  button.type = "button";
  button.dataset.row = row.name;
  const sample = add(button, "svg", {viewBox: "-15 -6 30 12", "aria-hidden": "true"});
  const line = {stroke: colour(row.style), "stroke-width": 1.6, "stroke-dasharray": dash(row.style)};
  add(sample, "path", {d: "M-15 0h30", ...line});
  add(sample, "path", {d: marker(row.style), fill: colour(row.style)});
  button.append(short(row.name, 32));
  button.title = row.name;
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {
    if (!hidden.delete(row.name)) hidden.add(row.name);
    draw();
  });
  button.addEventListener("pointerenter", () => emphasize(button.closest("section"), row.name));
  button.addEventListener("pointerleave", () => emphasize(button.closest("section")));
  item.append(button);
  return item;
}

function draw() {
  for (const section of drawable) if (!section.hidden) drawSection(section);
  for (const place of all("[data-ranks]")) drawCritical(place.querySelector("svg"), drawn.ranks[place.dataset.ranks]);
  rememberView();
}

function drawSection(section) {
  const {rows, differences} = chartsOf(section);
  for (const button of all(".key button", section)) {
    button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.row)));
    button.parentElement.hidden = !named(button.dataset.row);
  }
  const visible = rows.filter((row) => named(row.name) && !hidden.has(row.name));
  const svg = (chart) => figureOf(section, chart).querySelector("svg");
  const choice = (chart) => figureOf(section, chart).querySelector("select").value;
  const one = (chart) => rows.find((row) => row.name === choice(chart));
  drawCurves(svg("average"), visible, "average", "mean accuracy (%)");
  drawCurves(svg("first"), visible, "first", "accuracy on task 1 (%)");
  drawTrade(svg("trade"), visible, choice("trade"), drawn.better.includes(choice("trade")));
  drawDifferences(svg("difference"), visible, differences, choice("difference"));
  drawMatrix(svg("matrix"), one("matrix"), rows);
  if (one("confusion")) drawConfusion(svg("confusion"), one("confusion"));
  if (one("rank")) drawRanks(svg("rank"), one("rank"));
  if (one("bound")) drawBounds(svg("bound"), one("bound"));
  for (const figure of all("figure", section)) links(figure);
}

// Each figure as a file: the SVG that is seen, and those that were written beside the page

const FILES = {
  average: () => "average",
  first: () => "first-task",
  trade: (price) => (drawn.better.includes(price) ? "acc-bwt" : "costs"),
  matrix: (row) => `matrix-${row}`,
  confusion: (row) => `confusion-${row}`,
  rank: (row) => `rank-${row}`,
  bound: (row) => `bound-${row}`,
};

function links(figure) {
  const place = figure.querySelector(".links"), save = document.createElement("button");
  save.type = "button";
  save.textContent = "SVG";
  save.addEventListener("click", () => saveSvg(figure));
  place.replaceChildren("Save this figure: ", save);
  const section = figure.closest("section[data-of]");
  const what = FILES[figure.dataset.chart]?.(figure.querySelector("select")?.value);
  for (const file of (section && chartsOf(section).files[what]) ?? []) {
    const link = document.createElement("a");
    link.href = file.split("/").map(encodeURIComponent).join("/");
    link.textContent = file.split(".").at(-1).toUpperCase();
    place.append(" ", link);
  }
}

function saveSvg(figure) {
  const svg = figure.querySelector("svg"), copy = svg.cloneNode(true);
  const nodes = all("*", svg);
  all("*", copy).forEach((node, k) => {
    const style = getComputedStyle(nodes[k]);
    for (const name of ["fill", "stroke", "font", "opacity"]) {
      node.removeAttribute(name);
      node.style[name] = style[name];
    }
  });
  const {width, height} = svg.viewBox.baseVal;
  Object.entries({width, height}).forEach(([name, value]) => copy.setAttribute(name, value));
  copy.style.background = getComputedStyle(document.body).backgroundColor;
  copy.prepend(add(copy, "title", {}, figure.querySelector("figcaption b").textContent));
  const link = document.createElement("a");
  const title = figure.closest("section").querySelector("h2, h3").textContent;
  const text = new XMLSerializer().serializeToString(copy);
  link.href = URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}));
  link.download = `${title}-${figure.dataset.chart}`.replace(/[^\p{L}\p{N}.=]+/gu, "-").slice(0, 80) + ".svg";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Values under the pointer, and by the arrow keys

function emphasize(section, name) {
  for (const svg of all("figure svg", section)) {
    svg.classList.toggle("dim", name !== undefined && all(".series", svg).some((group) => group.dataset.row === name));
    for (const group of all(".series", svg)) group.classList.toggle("on", group.dataset.row === name);
  }
}

function show(svg, mark) {
  tip.hidden = !mark;
  emphasize(svg.closest("section"), mark?.row);
  if (!mark) return;
  const box = svg.getBoundingClientRect(), ratio = box.width / svg.viewBox.baseVal.width;
  tip.textContent = mark.text;
  const left = Math.min(box.left + mark.x * ratio + 12, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, box.top + mark.y * ratio - tip.offsetHeight - 10)}px`;
}

function nearest(svg, event) {
  const box = svg.getBoundingClientRect(), ratio = box.width / svg.viewBox.baseVal.width;
  const at = {x: (event.clientX - box.left) / ratio, y: (event.clientY - box.top) / ratio};
  const distance = ({x, y}) => Math.hypot(x - at.x, y - at.y);
  const found = svg.marks.reduce((best, mark) => (best && distance(best) <= distance(mark) ? best : mark), null);
  return found && distance(found) < 28 ? found : null;
}

for (const svg of all("figure svg")) {
  svg.marks = [];
  let at = -1;
  svg.addEventListener("pointermove", (event) => show(svg, nearest(svg, event)));
  svg.addEventListener("pointerleave", () => show(svg, null));
  svg.addEventListener("blur", () => show(svg, null));
  svg.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Escape") show(svg, null);
    if (!step || !svg.marks.length) return;
    event.preventDefault();
    at = (at + step + svg.marks.length) % svg.marks.length;
    show(svg, svg.marks[at]);
  });
}

// On paper, what is missing and what does not apply is read too

let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = all("details.gaps:not([open]), details.note:not([open])");
  for (const folded of unfolded) folded.open = true;
});
addEventListener("afterprint", () => unfolded.forEach((folded) => (folded.open = false)));

switches.hidden = false;
switches.addEventListener("input", choose);
switches.addEventListener("submit", (event) => event.preventDefault());
drawable.forEach(offer);
addEventListener("load", beginView); // before, the browser would look for a place that is called like the view
let width = innerWidth;
addEventListener("resize", () => width !== innerWidth && ((width = innerWidth), draw()));
