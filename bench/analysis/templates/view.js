// The view in the page's address, after the #: what is switched, filtered, sorted and chosen, and the place gone to.
// A plain place, such as #legend, leaves the view as it is. What the page does not have is passed over.

const controls = () => all("select[name], input[name]");
const sorting = (table) => all("th[data-sort]", table);

let began; // what each control held when the page had been laid out
let place = ""; // the part of the page that was gone to last

function beginView() {
  began = new Map(controls().map((control) => [control.name, control.value]));
  follow();
  addEventListener("hashchange", follow);
}

// The view as parameters; empty for the one that the page begins with.
function viewOf() {
  const view = new URLSearchParams();
  for (const {name, value} of controls()) if (value !== began.get(name)) view.set(name, value);
  for (const row of hidden) view.append("without", row);
  all("table").forEach((table, k) => {
    const column = sorting(table).findIndex((head) => head.hasAttribute("aria-sort"));
    if (column >= 0) view.append("sort", `${k} ${column} ${sorting(table)[column].getAttribute("aria-sort")}`);
  });
  return view;
}

function addressOf() {
  const view = viewOf();
  if (!String(view)) return place && `#${place}`;
  if (place) view.set("place", place);
  return `#${view}`;
}

function rememberView() {
  if (!began || addressOf() === location.hash) return;
  history.replaceState(null, "", addressOf() || location.pathname + location.search);
}

// Does what the address says, be it opened, shared or gone back to; after `moved`, it may be that of a link in the page.
function follow(moved) {
  const told = location.hash.slice(1), isPlace = told && !told.includes("=");
  const view = isPlace ? viewOf() : new URLSearchParams(told);
  const wanted = isPlace ? told : view.get("place"), before = place;
  place = document.getElementById(wanted) ? wanted : "";
  if (!isPlace || !moved) fill(view);
  if (!isPlace && place && place !== before) location.replace(`#${place}`); // which scrolls there, and marks the row
  rememberView();
}

function fill(view) {
  for (const control of controls()) {
    const value = view.get(control.name) ?? began.get(control.name);
    const known = control.tagName === "INPUT" || [...control.options].some((option) => option.value === value);
    control.value = known ? value : began.get(control.name);
  }
  const rows = new Set(all(".key button").map((button) => button.dataset.row));
  hidden.clear();
  for (const row of view.getAll("without")) if (rows.has(row)) hidden.add(row);
  for (const told of view.getAll("sort")) {
    const [table, column, order] = told.split(" ");
    const head = sorting(all("table")[table] ?? tip)[column];
    if (head) sortBy(head, order);
  }
  choose();
}
