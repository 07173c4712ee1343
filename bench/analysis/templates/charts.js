"use strict";
// Charts as inline SVG. Every name is set as text or as an attribute, never as markup.
// A chart keeps its `marks`: {x, y, row, text} of what a pointer or the arrow keys may ask about.

const NAMESPACE = document.querySelector("svg")?.namespaceURI;
const DASHES = ["none", "7 3", "2 3", "7 3 2 3"];
const MARKERS = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-3.5-3.5h7v7h-7z", "M0-4.8 4.4 3.2h-8.8z", "M0 4.8 4.4-3.2h-8.8z",
  "M0-5 5 0 0 5-5 0z", "M-5-1.6h3.4v-3.4h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4z",
  "M0-5 1.4-1.6 5-1.6 2.2.8 3.2 4.5 0 2.3-3.2 4.5-2.2.8-5-1.6-1.4-1.6z",
  "M-4-4-1-4 0-2 1-4 4-4 2 0 4 4 1 4 0 2-1 4-4 4-2 0z",
];
const colour = (style) => `var(--c${style % 7})`;
const marker = (style) => MARKERS[style % MARKERS.length];
const dash = (style) => DASHES[Math.floor(style / 7) % DASHES.length];
const short = (name, most = 20) => (name.length > most ? name.slice(0, most - 1) + "…" : name);
const digits = (value) => (Math.abs(value) >= 1000 ? value.toFixed(0) : String(+value.toPrecision(4)));
const shown = (value) => digits(value).replace("-", "−");
const spread = ([mean, sd], n) => shown(mean) + (n > 1 ? ` ± ${shown(+sd.toPrecision(2))}` : "");

const count = ({n}) => (n > 1 ? ` (n=${n})` : "");

function add(parent, tag, attributes = {}, text = "") {
  const node = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

function clear(svg, height) {
  const width = Math.max(280, svg.parentElement.clientWidth || 640);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  svg.marks = [];
  return width;
}

function scale([low, high], [start, end], log = false) {
  const f = log ? Math.log10 : (value) => value;
  return (value) => start + ((f(value) - f(low)) / (f(high) - f(low) || 1)) * (end - start);
}

function ticks([low, high], log, most = 6) {
  const found = [];
  if (log) {
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
      for (const k of high / low > 1e4 ? [1] : high / low > 50 ? [1, 3] : [1, 2, 5]) found.push(k * 10 ** e);
    return found.filter((value) => value >= low && value <= high);
  }
  const rough = (high - low || 1) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough);
  for (let k = Math.ceil(low / step); k * step <= high + step / 1e6; k++) found.push(+(k * step).toPrecision(12));
  return found;
}

function extent(values, log = false, room = 0.06) {
  const low = Math.min(...values), high = Math.max(...values);
  if (log) return [low / 1.3, high * 1.3];
  const more = (high - low || Math.abs(high) || 1) * room;
  return [low - more, high + more];
}

// Axes with their names; returns the two scales, from values to places.
function axes(svg, width, height, x, y, right = 12) {
  const left = 54, bottom = height - 40, top = 10;
  const sx = scale(x.range, [left, width - right], x.log), sy = scale(y.range, [bottom, top], y.log);
  for (const value of x.ticks ?? ticks(x.range, x.log, width / 90)) {
    add(svg, "line", {class: "grid", x1: sx(value), x2: sx(value), y1: top, y2: bottom});
    add(svg, "text", {x: sx(value), y: bottom + 15, "text-anchor": "middle"}, shown(value));
  }
  for (const value of ticks(y.range, y.log)) {
    add(svg, "line", {class: "grid", x1: left, x2: width - right, y1: sy(value), y2: sy(value)});
    add(svg, "text", {x: left - 6, y: sy(value) + 4, "text-anchor": "end"}, shown(value));
  }
  add(svg, "path", {class: "axis", fill: "none", d: `M${left} ${top}V${bottom}H${width - right}`});
  add(svg, "text", {x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, x.name);
  const middle = (top + bottom) / 2;
  add(svg, "text", {x: 11, y: middle, "text-anchor": "middle", transform: `rotate(-90 11 ${middle})`}, y.name);
  return [sx, sy];
}

function series(svg, row) {
  const group = add(svg, "g", {class: "series"});
  group.dataset.row = row.name;
  return group;
}

function mark(svg, group, row, x, y, text) {
  add(group, "path", {d: marker(row.style), transform: `translate(${x} ${y})`, fill: colour(row.style)});
  svg.marks.push({x, y, row: row.name, text: `${row.name}: ${text}`});
}

// Names at the right end of curves, moved apart where they would touch.
function endLabels(labels, x, low, high) {
  labels.sort((a, b) => a.y - b.y);
  let free = low;
  for (const label of labels) free = (label.at = Math.max(label.y, free)) + 13;
  free = high;
  for (const label of labels.reverse()) free = (label.at = Math.min(label.at, free)) - 13;
  for (const {group, row, at, y} of labels) {
    add(group, "path", {d: `M${x + 2} ${y}L${x + 9} ${at}`, stroke: colour(row.style), fill: "none"});
    add(group, "text", {x: x + 12, y: at + 4}, short(row.name));
  }
}

function drawCurves(svg, rows, key, name) {
  const measured = ({mean}) => mean !== null;
  const points = (row) => row[key].map(([mean, sd], k) => ({x: k + 1, mean, sd})).filter(measured);
  const all = rows.flatMap(points);
  if (!all.length) return clear(svg, 40);
  const labelled = svg.parentElement.clientWidth > 430;
  const height = Math.max(300, labelled ? rows.length * 13.5 + 60 : 0);
  const width = clear(svg, height);
  const last = Math.max(...rows.map((row) => row[key].length));
  const whole = ticks([1, last], false, 10).filter((value) => Number.isInteger(value) && value > 0);
  const right = labelled ? Math.max(...rows.map((row) => short(row.name).length)) * 6.6 + 24 : 12;
  const few = rows.length <= 6;
  const range = extent(few ? all.flatMap(({mean, sd}) => [mean - sd, mean + sd]) : all.map((point) => point.mean));
  const x = {range: [1, Math.max(last, 2)], ticks: whole[0] === 1 ? whole : [1, ...whole], name: "tasks learned"};
  const [sx, sy] = axes(svg, width, height, x, {range, name}, right);
  const labels = [];
  for (const row of rows) {
    const own = points(row), group = series(svg, row);
    if (few && row.n > 1) {
      const edge = (sign) => own.map(({x, mean, sd}) => `${sx(x)} ${sy(mean + sign * sd)}`);
      const band = `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z`;
      add(group, "path", {d: band, fill: colour(row.style), opacity: 0.15});
    }
    const path = own.map(({x, mean}) => `${sx(x)} ${sy(mean)}`).join("L");
    const line = {stroke: colour(row.style), "stroke-width": 1.6, "stroke-dasharray": dash(row.style)};
    add(group, "path", {d: "M" + path, fill: "none", ...line});
    for (const {x, mean, sd} of own)
      mark(svg, group, row, sx(x), sy(mean), `${spread([mean, sd], row.n)} % after task ${x}${count(row)}`);
    if (own.length) labels.push({group, row, y: sy(own.at(-1).mean)});
  }
  if (labelled) endLabels(labels, width - right, 14, height - 44);
}

// Rows that no other row surpasses in accuracy at the same or a lower cost, from the cheapest.
function paretoFront(points, more) {
  const sign = more ? -1 : 1;
  const ordered = points.filter(({row}) => !row.upper).sort((a, b) => sign * (a.x - b.x) || b.y - a.y);
  let best = -Infinity;
  return ordered.filter(({y}) => y > best && ((best = y), true));
}

function drawTrade(svg, rows, price, more) {
  const measured = rows.filter((row) => row.prices[price][0] !== null && row.acc[0] !== null);
  const points = measured.map((row) => ({row, x: row.prices[price][0], y: row.acc[0]}));
  if (!points.length) return message(svg, "Not measured for these methods.");
  const height = 340, width = clear(svg, height);
  const costs = points.map(({x}) => x);
  const ends = points.flatMap(({row: {acc: [mean, sd]}}) => [mean - sd, mean + sd]);
  const log = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) > 20;
  const wide = log ? costs : measured.flatMap(({prices: {[price]: [mean, sd]}}) => [mean - sd, mean + sd]);
  const xs = {range: extent(wide, log), log, name: price + (log ? ", log scale" : "")};
  const [sx, sy] = axes(svg, width, height, xs, {range: extent(ends), name: "ACC (%)"}, 24);
  const front = paretoFront(points, more);
  const path = front.map(({x, y}) => `${sx(x)} ${sy(y)}`).join("L");
  if (front.length > 1) add(svg, "path", {class: "front axis", d: "M" + path, fill: "none", "stroke-dasharray": "4 3"});
  const labels = [];
  for (const {row, x, y} of points) {
    const group = series(svg, row), [cost, sd] = row.prices[price];
    const bar = (d) => add(group, "path", {d, stroke: colour(row.style), fill: "none", opacity: 0.6});
    if (row.n > 1) {
      bar(`M${sx(x)} ${sy(y - row.acc[1])}V${sy(y + row.acc[1])}`);
      if (!log) bar(`M${sx(cost - sd)} ${sy(y)}H${sx(cost + sd)}`);
    }
    const best = front.some((point) => point.row === row);
    const told = `ACC ${spread(row.acc, row.n)} %, ${price} ${spread([cost, sd], row.n)}${count(row)}`;
    mark(svg, group, row, sx(x), sy(y), told + (best ? ", on the Pareto front" : ""));
    if (best || points.length <= 8) labels.push({group, row, x: sx(x), y: sy(y), best});
  }
  nearLabels(labels, width);
}

// Names beside points; one that would cover another is moved below it, or left to the pointer.
function nearLabels(labels, width) {
  const taken = [];
  for (const {group, row, x, y, best} of labels.sort((a, b) => b.best - a.best)) {
    const text = short(row.name), size = text.length * 6.8;
    const left = x + 10 + size > width ? x - 10 - size : x + 9;
    const touches = (box, at) => Math.abs(box.y - at) < 12 && box.left < left + size && left < box.left + box.size;
    const free = [4, -8, 16, -20, 28].find((dy) => !taken.some((box) => touches(box, y + dy)));
    if (free === undefined) continue;
    taken.push({left, size, y: y + free});
    add(group, "text", {x: left, y: y + free, "font-weight": best ? 600 : 400}, text);
  }
}

function drawDifferences(svg, rows, differences, reference) {
  const shared = differences[reference] ?? {};
  const found = rows.filter((row) => shared[row.name]).map((row) => ({row, d: shared[row.name]}));
  if (!found.length) return message(svg, "No other method shares a seed with this one.");
  found.sort((a, b) => b.d[0] - a.d[0]);
  const height = found.length * 20 + 56, width = clear(svg, height);
  const left = Math.min(width / 3, Math.max(...found.map(({row}) => short(row.name).length)) * 6.8 + 12);
  const range = extent([0, ...found.flatMap(({d}) => d.slice(0, 3)).filter((value) => value !== null)]);
  const sx = scale(range, [left, width - 16]), bottom = height - 36;
  for (const value of ticks(range, false, width / 90)) {
    add(svg, "line", {class: value ? "grid" : "axis", x1: sx(value), x2: sx(value), y1: 6, y2: bottom});
    add(svg, "text", {x: sx(value), y: bottom + 15, "text-anchor": "middle"}, shown(value));
  }
  const name = `ACC minus that of ${short(reference)} (points)`;
  add(svg, "text", {x: (left + width) / 2, y: height - 4, "text-anchor": "middle"}, name);
  found.forEach(({row, d: [mean, low, high, n]}, k) => {
    const y = 16 + 20 * k, group = series(svg, row);
    const bar = `M${sx(low)} ${y}H${sx(high)}M${sx(low)} ${y - 4}v8M${sx(high)} ${y - 4}v8`;
    if (low !== null) add(group, "path", {d: bar, stroke: colour(row.style), "stroke-width": 1.5});
    const interval = low === null ? "one common seed, no interval" : `[${shown(low)}, ${shown(high)}], n=${n}`;
    mark(svg, group, row, sx(mean), y, `${mean > 0 ? "+" : ""}${shown(mean)} points, ${interval}`);
    add(group, "text", {x: left - 8, y: y + 4, "text-anchor": "end"}, short(row.name));
  });
}

// A colour between two, and the ink that is read best on it; `share` in [0, 1].
function blend(a, b, share) {
  const parts = a.map((from, k) => Math.round(from + (b[k] - from) * share));
  const [red, green, blue] = parts.map((part) => (part / 255) ** 2.2);
  return {fill: `rgb(${parts})`, ink: 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff"};
}
const WHITE = [247, 247, 247], BLUE = [33, 102, 172], DARK = [8, 81, 156], ORANGE = [179, 88, 6];

// Numbers in cells; `cells` are {i, j, value, fill, ink, frame, text}, `lines` the names of the rows of cells.
function drawGrid(svg, {cells, across, lines, row, names, square}) {
  const left = Math.min(140, Math.max(...lines.map((name) => short(name, 16).length)) * 7 + 28);
  const room = Math.max(280, svg.parentElement.clientWidth || 640) - left - 8;
  const side = Math.min(room / across, square ? 46 : 70), tall = square ? side : 22, down = lines.length * tall;
  const middle = (x, y, text, more = {}) => add(svg, "text", {x, y, "text-anchor": "middle", ...more}, text);
  clear(svg, down + 44);
  for (const {i, j, value, fill, ink, frame, text} of cells) {
    const x = left + j * side, y = 4 + i * tall, stroke = frame ? "currentColor" : "none";
    add(svg, "rect", {x, y, width: side, height: tall, fill, stroke, "stroke-width": 1.5});
    const size = side < 38 ? "small" : "";
    const label = value.toFixed(side >= 38 && square ? 1 : 0);
    if (side >= 19) middle(x + side / 2, y + tall / 2 + 4, label, {class: size, style: `fill: ${ink}`});
    svg.marks.push({x: x + side / 2, y: y + tall / 2, row, text});
  }
  const every = Math.ceil(14 / tall);
  lines.forEach((name, i) => {
    if (i % every === 0) add(svg, "text", {x: left - 6, y: 8 + (i + 0.5) * tall, "text-anchor": "end"}, short(name, 16));
  });
  for (let j = 0; j < across; j += Math.ceil(18 / side)) middle(left + (j + 0.5) * side, down + 18, String(j + 1));
  middle(left + (across * side) / 2, down + 38, names[0]);
  middle(12, down / 2, names[1], {transform: `rotate(-90 12 ${down / 2})`});
}

function measured({matrix}) {
  const change = (i, j) => (matrix[j][j] === null ? 0 : matrix[i][j] - matrix[j][j]);
  const entry = (i) => (value, j) => (value === null ? [] : {i, j, value, change: change(i, j)});
  return matrix.flatMap((line, i) => line.flatMap(entry(i)));
}

function drawMatrix(svg, row, rows) {
  const limit = Math.max(1, ...rows.flatMap(measured).map(({change}) => Math.abs(change)));
  const cells = measured(row).map(({i, j, value, change}) => {
    const since = i > j ? `, ${change > 0 ? "+" : ""}${shown(change)} since learned` : "";
    const text = `${row.name}: ${shown(value)} % on task ${j + 1} after task ${i + 1}${since}`;
    return {i, j, value, text, frame: i === j, ...blend(WHITE, change > 0 ? BLUE : ORANGE, Math.abs(change) / limit)};
  });
  const lines = row.matrix.map((_, i) => String(i + 1));
  const names = ["accuracy (%) on task", "after task"];
  drawGrid(svg, {cells, across: lines.length, lines, row: row.name, names, square: true});
}

function drawConfusion(svg, row) {
  const cells = row.confusion.flatMap((line, i) =>
    line.map((value, j) => {
      const text = `${row.name}: ${shown(value)} % of the images of task ${i + 1} taken for a class of task ${j + 1}`;
      return {i, j, value, text, frame: i === j, ...blend(WHITE, DARK, value / 100)};
    }));
  const lines = row.confusion.map((_, i) => String(i + 1));
  const names = ["taken for a class of task (%)", "images of task"];
  drawGrid(svg, {cells, across: lines.length, lines, row: row.name, names, square: true});
}

function drawRanks(svg, row) {
  const layers = Object.entries(row.ranks);
  const cells = layers.flatMap(([layer, values], i) => {
    const most = Math.max(1, ...values);
    const text = (value, j) => `${row.name}: ${shown(value)} in ${layer} at task ${j + 1}`;
    const cell = (value, j) => ({i, j, value, text: text(value, j), ...blend(WHITE, DARK, value / most)});
    return values.flatMap((value, j) => (value === null ? [] : cell(value, j)));
  });
  const across = Math.max(...layers.map(([, values]) => values.length)), lines = layers.map(([layer]) => layer);
  drawGrid(svg, {cells, across, lines, row: row.name, names: ["task", "layer"], square: false});
}

function drawBounds(svg, row) {
  const positive = (points) => points.filter(([bound, measured]) => bound > 0 && measured > 0);
  const layers = Object.entries(row.bounds).map(([name, points], style) => ({name, style, points: positive(points)}));
  const all = layers.flatMap(({points}) => points);
  if (!all.length) return message(svg, "No point above zero.");
  const height = 340, width = clear(svg, height), range = extent(all.flat(), true);
  const labelled = Math.max(...layers.map(({name}) => short(name).length)) * 6.8 + 30;
  const [x, y] = ["bound (norm of outputs)", "measured"].map((name) => ({range, log: true, name}));
  const [sx, sy] = axes(svg, width, height, x, y, labelled);
  const equal = range.map((end) => `${sx(end)} ${sy(end)}`).join("L");
  add(svg, "path", {class: "axis", "stroke-dasharray": "4 3", d: "M" + equal});
  layers.forEach((layer, k) => {
    const group = series(svg, layer);
    for (const [b, m] of layer.points)
      mark(svg, group, layer, sx(b), sy(m), `measured ${shown(m)}, bound ${shown(b)}`);
    const left = width - labelled + 14, transform = `translate(${left} ${20 + 16 * k})`;
    add(group, "path", {d: marker(layer.style), fill: colour(layer.style), transform});
    add(group, "text", {x: left + 8, y: 24 + 16 * k}, short(layer.name));
  });
}

// Mean ranks on a line, the best on the left, and bars over methods that differ by less than the critical difference.
function drawCritical(svg, {ranks, cd}) {
  const all = Object.entries(ranks).sort((a, b) => a[1] - b[1]);
  const half = Math.ceil(all.length / 2), height = 70 + half * 18 + all.length * 5, width = clear(svg, height);
  const sx = scale([1, all.length], [130, width - 130]), axis = 40;
  add(svg, "path", {class: "axis", d: `M130 ${axis}H${width - 130}`});
  for (let rank = 1; rank <= all.length; rank++) {
    add(svg, "path", {class: "axis", d: `M${sx(rank)} ${axis}v-5`});
    add(svg, "text", {x: sx(rank), y: axis - 9, "text-anchor": "middle"}, String(rank));
  }
  add(svg, "text", {x: 4, y: 14}, `critical difference ${shown(cd)}`);
  let bars = 0, reached = -1;
  all.forEach(([, rank], k) => {
    const last = all.findLastIndex(([, other]) => other - rank <= cd);
    if (last > k && last > reached) {
      const y = axis + 8 + 5 * bars++;
      add(svg, "path", {d: `M${sx(rank) - 3} ${y}H${sx(all[last][1]) + 3}`, stroke: "currentColor", "stroke-width": 3});
      reached = last;
    }
  });
  all.forEach(([name, rank], k) => {
    const first = k < half, y = axis + 18 + 5 * bars + 18 * (first ? k : all.length - 1 - k), x = first ? 126 : width - 126;
    add(svg, "path", {class: "axis", fill: "none", d: `M${sx(rank)} ${axis}V${y}H${x}`});
    add(svg, "text", {x: first ? 122 : width - 122, y: y + 4, "text-anchor": first ? "end" : "start"}, short(name, 17));
    svg.marks.push({x: sx(rank), y: axis, row: name, text: `${name}: mean rank ${shown(rank)}`});
  });
}

function message(svg, text) {
  const width = clear(svg, 60);
  add(svg, "text", {x: width / 2, y: 34, "text-anchor": "middle"}, text);
}
