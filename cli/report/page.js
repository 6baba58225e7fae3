"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const names = data.names;
/* As enum report_kind numbers them; the later ones matter more where marks meet. */
const KINDS = [
	{ id: "version", one: "version", many: "versions" },
	{ id: "merge", one: "merge", many: "merges" },
	{ id: "undo", one: "undone change", many: "undone changes" },
	{ id: "refusal", one: "refusal", many: "refusals" },
	{ id: "conflict", one: "conflict", many: "conflicts" },
	{ id: "event", one: "other event", many: "other events" },
];
const [VERSION, MERGE, UNDO, REFUSAL, CONFLICT, EVENT] = KINDS.keys();
const RANK = [0, 2, 3, 4, 5, 1];
const LANES_MAX = 200, GUTTER = 150, AXIS = 28, LANE = 54, BIN = 7, PAGE = 100, FILES = 20;

/* ---- the data ---- */

/* Columns hold the first value and then the differences. */
function column(name, type) {
	const out = new type(data[name].length);
	let last = 0;
	for (let i = 0; i < out.length; i++) out[i] = last += data[name][i];
	return out;
}
const e = {};
for (const name of ["time", "number", "set", "size", "from_number", "seq"]) e[name] = column(name, Float64Array);
for (const name of ["kind", "writer", "path", "what", "command", "text", "from_path", "refusals", "resolved"])
	e[name] = column(name, Uint32Array);
const N = e.time.length;

const plural = (n, one, many) => n.toLocaleString() + " " + (n === 1 ? one : many || one + "s");
const writerName = (w) => names[w] || "(outside the mount)";
const isVersion = (i) => e.kind[i] <= UNDO;

function count() {
	const files = new Map(), writers = new Map(), totals = new Array(KINDS.length).fill(0);
	for (let i = 0; i < N; i++) {
		const k = e.kind[i], times = e.refusals[i];
		let w = writers.get(e.writer[i]), f = files.get(e.path[i]);
		if (!w) writers.set(e.writer[i], w = { writer: e.writer[i], kinds: [0, 0, 0, 0, 0, 0], files: new Set() });
		if (!f) files.set(e.path[i], f = { path: e.path[i], versions: 0, writers: new Set(), refusals: 0, conflicts: 0 });
		totals[k] += times;
		w.kinds[k] += times;
		if (isVersion(i)) {
			f.versions++;
			f.writers.add(e.writer[i]);
			w.files.add(e.path[i]);
		} else if (k === REFUSAL || k === CONFLICT) {
			f.refusals += times;
			f.conflicts += k === CONFLICT;
		}
	}
	return { files, writers, totals };
}
const { files, writers, totals } = count();
const byNumber = (w) => w.kinds.reduce((a, b) => a + b, 0);
const ranked = [...writers.values()].sort((a, b) => byNumber(b) - byNumber(a));
const lanes = ranked.slice(0, LANES_MAX).map((w) => writerName(w.writer));
if (ranked.length > LANES_MAX) lanes[LANES_MAX - 1] = plural(ranked.length - LANES_MAX + 1, "other writer");
const laneOf = new Map(ranked.map((w, at) => [w.writer, Math.min(at, LANES_MAX - 1)]));
const lane = Uint32Array.from(e.writer, (w) => laneOf.get(w));

/* ---- time ---- */

const first = N ? e.time[0] : data.until - 1000, last = N ? e.time[N - 1] : data.until;
const room = Math.max((last - first) * 0.02, 500);
const all = { from: first - room, to: last + room };
let view = { ...all };

function clock(ms, exact) {
	const d = new Date(ms), two = (n) => String(n).padStart(2, "0");
	const day = `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
	const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
	return `${day} ${time}` + (exact ? "." + String(d.getMilliseconds()).padStart(3, "0") : "");
}

/* The first event at or after the time. */
function at(time) {
	let low = 0, high = N;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (e.time[middle] < time) low = middle + 1;
		else high = middle;
	}
	return low;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5,
	18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5, 2592e6, 7776e6, 31536e6];

/* ---- drawing ---- */

const canvas = $("canvas"), g = canvas.getContext("2d");
let width = 0, height = 0, colours = {}, shown = KINDS.map(() => true), queued = false, draws = 0;
let bins = new Map(), most = 1, selected = -1;
const x = (time) => GUTTER + (time - view.from) / (view.to - view.from) * (width - GUTTER - 8);
const timeAt = (px) => view.from + (px - GUTTER) / (width - GUTTER - 8) * (view.to - view.from);
const binOf = (i) => Math.floor((x(e.time[i]) - GUTTER) / BIN);

function readColours() {
	const style = getComputedStyle(document.documentElement);
	for (const name of ["card", "stripe", "line", "text", "dim", "accent", ...KINDS.map((k) => k.id)])
		colours[name] = style.getPropertyValue("--" + name).trim();
}

/* The shape says what it is as well as the colour does. */
function shape(c, kind, px, py, r) {
	c.beginPath();
	if (kind === REFUSAL) {
		c.moveTo(px, py - r); c.lineTo(px + r, py + r * 0.8); c.lineTo(px - r, py + r * 0.8); c.closePath();
	} else if (kind === CONFLICT) {
		const a = r * 0.4;
		for (const [dx, dy] of [[-r, -r + a], [-r + a, -r], [0, -a], [r - a, -r], [r, -r + a], [a, 0],
			[r, r - a], [r - a, r], [0, a], [-r + a, r], [-r, r - a], [-a, 0]]) c.lineTo(px + dx, py + dy);
		c.closePath();
	} else if (kind === MERGE) {
		c.arc(px, py, r * 0.9, 0, 7);
	} else if (kind === UNDO) {
		c.moveTo(px, py - r); c.lineTo(px + r, py); c.lineTo(px, py + r); c.lineTo(px - r, py); c.closePath();
	} else if (kind === EVENT) {
		c.rect(px - r * 0.7, py - r * 0.7, r * 1.4, r * 1.4);
	} else {
		c.rect(px - r * 0.35, py - r, r * 0.7, r * 2);
	}
	c.fill();
}

/* What falls on the same few pixels of a lane is one bin. */
function fill() {
	bins = new Map();
	most = 1;
	for (let i = at(view.from), end = at(view.to + 1); i < end; i++) {
		const kind = e.kind[i];
		if (!shown[kind]) continue;
		const key = lane[i] * 65536 + binOf(i);
		let bin = bins.get(key);
		if (!bin) bins.set(key, bin = { lane: lane[i], at: binOf(i), kinds: [0, 0, 0, 0, 0, 0], first: i });
		bin.kinds[kind]++;
		if (kind === VERSION) most = Math.max(most, bin.kinds[VERSION]);
	}
}

const laneTop = (l) => AXIS + l * LANE;
const centre = (b) => GUTTER + (b.at + 0.5) * BIN;

function drawBin(b) {
	const bottom = laneTop(b.lane) + LANE - 6, px = centre(b);
	const versions = b.kinds[VERSION];
	if (versions) {
		const tall = 6 + (most > 1 ? 14 * Math.log(versions) / Math.log(most) : 0);
		g.fillStyle = colours.version;
		g.fillRect(px - (versions > 1 ? 2.5 : 1.5), bottom - tall, versions > 1 ? 5 : 3, tall);
	}
	/* What was refused is in a row of its own; what matters more is drawn over the rest. */
	for (const kind of [EVENT, MERGE, UNDO, REFUSAL, CONFLICT]) {
		if (!b.kinds[kind]) continue;
		const refused = kind === REFUSAL || kind === CONFLICT;
		g.fillStyle = colours[KINDS[kind].id];
		shape(g, kind, px, laneTop(b.lane) + (refused ? 9 : 21), 4.6);
	}
}

function tickText(ms, step) {
	const text = clock(ms, true);
	if (step >= 864e5) return text.slice(0, 10);
	const midnight = text.slice(11, 19) === "00:00:00" && step >= 6e4;
	return midnight ? text.slice(5, 10) : step >= 6e4 ? text.slice(11, 16) : step >= 1e3 ? text.slice(11, 19) : text.slice(11);
}

function drawAxis() {
	const enough = (view.to - view.from) / Math.max(2, (width - GUTTER) / 110);
	const step = STEPS.find((s) => s >= enough) || STEPS[STEPS.length - 1];
	const shift = new Date(view.from).getTimezoneOffset() * 6e4;
	g.textAlign = "center";
	for (let t = Math.ceil((view.from - shift) / step) * step + shift; t <= view.to; t += step) {
		g.fillStyle = colours.line;
		g.fillRect(Math.round(x(t)), AXIS - 4, 1, height - AXIS + 4);
		g.fillStyle = colours.dim;
		if (x(t) > GUTTER + 24 && x(t) < width - 30) g.fillText(tickText(t, step), x(t), AXIS / 2);
	}
}

function clip(text, room) {
	if (g.measureText(text).width <= room) return text;
	while (text && g.measureText(text + "…").width > room) text = text.slice(0, -1);
	return text + "…";
}

function draw() {
	queued = false;
	const ratio = window.devicePixelRatio || 1;
	width = Math.max(320, canvas.parentElement.clientWidth);
	height = AXIS + Math.max(1, lanes.length) * LANE + 4;
	if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
		canvas.width = Math.round(width * ratio);
		canvas.height = Math.round(height * ratio);
		canvas.style.height = height + "px";
	}
	g.setTransform(ratio, 0, 0, ratio, 0, 0);
	g.fillStyle = colours.card;
	g.fillRect(0, 0, width, height);
	g.font = "12px system-ui, sans-serif";
	g.textBaseline = "middle";
	lanes.forEach((_, l) => {
		g.fillStyle = l % 2 ? colours.stripe : colours.card;
		g.fillRect(0, laneTop(l), width, LANE);
	});
	drawAxis();
	fill();
	g.save();
	g.beginPath();
	g.rect(GUTTER, 0, width - GUTTER, height);
	g.clip();
	for (const bin of bins.values()) drawBin(bin);
	if (selected >= 0) {
		g.strokeStyle = colours.accent;
		g.lineWidth = 2;
		g.strokeRect(centre({ at: binOf(selected) }) - 7, laneTop(lane[selected]) + 2, 14, LANE - 5);
	}
	g.restore();
	g.fillStyle = colours.text;
	g.textAlign = "left";
	lanes.forEach((name, l) => g.fillText(clip(name, GUTTER - 24), 12, laneTop(l) + LANE / 2));
	g.fillStyle = colours.line;
	g.fillRect(GUTTER - 1, AXIS, 1, height);
	if (!N) {
		g.fillStyle = colours.dim;
		g.fillText("Nothing happened in this span.", GUTTER + 12, AXIS + LANE / 2);
	}
	draws++;
}

let pageAt = 0;
function redraw() {
	pageAt = 0;
	if (!queued) requestAnimationFrame(() => { draw(); listEvents(); });
	queued = true;
}

/* ---- moving ---- */

function look(from, to) {
	const widest = all.to - all.from;
	const span = Math.min(Math.max(to - from, 20), widest);
	const middle = (from + to) / 2;
	from = Math.min(Math.max(middle - span / 2, all.from), all.to - span);
	view = { from, to: from + span };
	redraw();
}
function zoom(by, px) {
	const t = px === undefined ? (view.from + view.to) / 2 : timeAt(Math.max(px, GUTTER));
	look(t - (t - view.from) * by, t + (view.to - t) * by);
}
const pan = (part) => look(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));

const place = (event) => {
	const box = canvas.getBoundingClientRect();
	return { x: event.clientX - box.left, y: event.clientY - box.top };
};

/* The events of the bin under the pointer, or of one beside it; what matters most first. */
function under(p) {
	const l = Math.floor((p.y - AXIS) / LANE), b = Math.floor((p.x - GUTTER) / BIN);
	if (p.y < AXIS || p.x < GUTTER || l >= lanes.length) return [];
	const found = [0, -1, 1].map((d) => l * 65536 + b + d).find((key) => bins.has(key));
	if (found === undefined) return [];
	const bin = bins.get(found), out = [];
	for (let i = bin.first; i < N && (lane[i] !== l || binOf(i) <= bin.at); i++) {
		if (lane[i] === l && binOf(i) === bin.at && shown[e.kind[i]]) out.push(i);
		if (binOf(i) > bin.at) break;
	}
	return out.sort((a, c) => RANK[e.kind[c]] - RANK[e.kind[a]] || c - a);
}

/* ---- words ---- */

function make(tag, text, className) {
	const node = document.createElement(tag);
	if (text !== undefined) node.textContent = text;
	if (className) node.className = className;
	return node;
}
function whatIs(i) {
	const what = names[e.what[i]], many = e.refusals[i];
	switch (e.kind[i]) {
	case VERSION: return what;
	case MERGE: return what.includes("merged") ? what : what + " merged";
	case UNDO: return "undo (" + what + ")";
	case REFUSAL: return many > 1 ? many + " refusals" : what ? "refused: " + what : "refused";
	case CONFLICT: return "conflict: " + what + (e.resolved[i] ? " (resolved)" : "");
	}
	return what;
}
const fileOf = (i) => names[e.path[i]] + (isVersion(i) ? "@" + e.number[i] : "");
const quote = (word) => /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'";
function commandFor(i) {
	const here = quote(fileOf(i)), from = e.from_number[i];
	if (e.kind[i] === CONFLICT) return "stomp conflicts show " + e.number[i];
	if (!isVersion(i)) return "stomp log " + quote(names[e.path[i]]);
	if (e.size[i] < 0) return from ? "stomp cat " + quote(names[e.from_path[i]] + "@" + from) : "stomp log " + quote(names[e.path[i]]);
	if (!from) return "stomp cat " + here;
	return "stomp diff " + quote(names[e.from_path[i]] + "@" + from) + " " + here;
}
function facts(i) {
	const out = [["What", whatIs(i)], ["Writer", writerName(e.writer[i])], ["Time", clock(e.time[i], true)]];
	if (isVersion(i)) {
		out.push(["Version", String(e.number[i])]);
		if (e.size[i] >= 0) out.push(["Size", plural(e.size[i], "byte")]);
		if (names[e.from_path[i]] !== names[e.path[i]] && names[e.from_path[i]])
			out.push(["From", names[e.from_path[i]] + "@" + e.from_number[i]]);
	} else if (e.number[i]) {
		out.push(["Number", String(e.number[i])]);
	}
	if (names[e.command[i]]) out.push(["Command", names[e.command[i]]]);
	if (e.set[i]) out.push(["Set", e.set[i] + (data.undos[e.set[i]] ? ", undo of " + data.undos[e.set[i]] : "")]);
	if (names[e.text[i]]) out.push(["Said", names[e.text[i]]]);
	return out;
}

/* ---- hovering ---- */

const tip = $("tip");
function hover(p, event) {
	const found = under(p);
	tip.hidden = !found.length;
	canvas.style.cursor = found.length ? "pointer" : "crosshair";
	if (!found.length) return;
	tip.replaceChildren();
	for (const i of found.slice(0, 4)) {
		const row = make("div");
		row.append(make("b", fileOf(i) || whatIs(i)), make("br"));
		row.append(whatIs(i) + " by " + writerName(e.writer[i]));
		row.append(make("br"), make("small", clock(e.time[i], true) + (e.set[i] ? ", set " + e.set[i] : "")));
		if (names[e.command[i]]) row.append(make("br"), make("small", names[e.command[i]].slice(0, 160)));
		tip.append(row);
	}
	if (found.length > 4) tip.append(make("div", "and " + (found.length - 4).toLocaleString() + " more here"));
	const box = tip.getBoundingClientRect();
	tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
	tip.style.top = (event.clientY + 18 + box.height > innerHeight ? Math.max(4, event.clientY - box.height - 12) : event.clientY + 18) + "px";
}

/* ---- the panel ---- */

function putDiff(text) {
	const pre = make("pre");
	let head = true;
	for (const line of text.replace(/\n$/, "").split("\n")) {
		head = head && !line.startsWith("@@");
		const kind = head ? "f" : line[0] === "+" ? "a" : line[0] === "-" ? "d" : line.startsWith("@@") ? "h" : "";
		pre.append(make("span", line || " ", kind));
	}
	return pre;
}
function select(i, others) {
	const detail = $("detail"), list = make("dl");
	selected = i;
	detail.replaceChildren(make("h2", fileOf(i) || whatIs(i)), list);
	for (const [name, value] of facts(i)) list.append(make("dt", name), make("dd", value));
	const diff = data.diffs[e.path[i] + "@" + e.number[i]];
	if (isVersion(i) && diff !== undefined) {
		detail.append(putDiff(diff));
	} else {
		const line = make("p", isVersion(i) ? "The difference is not in this page. To see it: " : "To see more: ");
		line.append(make("code", commandFor(i)));
		detail.append(line);
	}
	if (others && others.length > 1) {
		const more = make("ul", undefined, "list");
		detail.append(make("h2", plural(others.length, "event") + " here"), more);
		for (const other of others.slice(0, 200)) {
			const item = make("li"), button = make("button", `${clock(other >= 0 ? e.time[other] : 0).slice(11)} ${whatIs(other)} ${fileOf(other)}`);
			button.type = "button";
			button.addEventListener("click", () => select(other, others));
			item.append(button);
			more.append(item);
		}
		if (others.length > 200) detail.append(make("p", "The first 200 are listed; zoom in for the others."));
	}
	$("panel").hidden = false;
	$("panel").scrollTop = 0;
	detail.focus({ preventScroll: true });
	draw();
}
let opener = null;
function closePanel() {
	$("panel").hidden = true;
	selected = -1;
	(opener || canvas).focus();
	draw();
}

/* ---- tables ---- */

function row(body, cells) {
	const tr = make("tr");
	for (const cell of cells) {
		const td = make("td", undefined, typeof cell === "number" ? "n" : cell.name ? "name" : "");
		td.append(typeof cell === "number" ? cell.toLocaleString() : cell.name || cell);
		tr.append(td);
	}
	body.append(tr);
}
function listFiles() {
	const body = $("files").tBodies[0];
	const score = (f) => f.conflicts * 1e6 + f.refusals * 1e3 + Math.max(0, f.writers.size - 1) * 10;
	const fought = [...files.values()].filter((f) => names[f.path] && score(f) > 0)
		.sort((a, b) => score(b) - score(a) || b.versions - a.versions);
	for (const f of fought.slice(0, FILES))
		row(body, [{ name: names[f.path] }, f.versions, f.writers.size, f.refusals, f.conflicts]);
	if (!fought.length) row(body, [{ name: "No file was changed by two writers, and nothing was refused." }]);
}
function listWriters() {
	for (const w of ranked.slice(0, LANES_MAX))
		row($("writers").tBodies[0], [{ name: writerName(w.writer) }, w.kinds[VERSION] + w.kinds[MERGE] + w.kinds[UNDO],
			w.files.size, w.kinds[MERGE], w.kinds[UNDO], w.kinds[REFUSAL] + w.kinds[CONFLICT], w.kinds[CONFLICT]]);
}
function listEvents() {
	const body = $("events").tBodies[0], from = at(view.from), to = at(view.to + 1), visible = [];
	let n = 0;
	for (let i = to - 1; i >= from; i--) {
		if (!shown[e.kind[i]]) continue;
		if (n >= pageAt * PAGE && n < (pageAt + 1) * PAGE) visible.push(i);
		n++;
	}
	body.replaceChildren();
	for (const i of visible) {
		const button = make("button", fileOf(i) || "(show)");
		button.type = "button";
		button.addEventListener("click", () => { opener = button; select(i); });
		row(body, [clock(e.time[i]), { name: button }, writerName(e.writer[i]), whatIs(i)]);
	}
	$("shown").textContent = `(${n.toLocaleString()} of ${N.toLocaleString()})`;
	$("page").textContent = n > PAGE ? `${pageAt * PAGE + 1} to ${Math.min(n, (pageAt + 1) * PAGE)}, newest first` : "newest first";
	$("newer").disabled = pageAt === 0;
	$("older").disabled = (pageAt + 1) * PAGE >= n;
}

/* ---- the rest of the page ---- */

function putLegend() {
	KINDS.forEach((kind, k) => {
		if (!totals[k] && k === EVENT) return;
		const label = make("label"), box = make("input"), mark = make("canvas");
		box.type = "checkbox";
		box.checked = true;
		box.id = "show-" + kind.id;
		box.addEventListener("change", () => { shown[k] = box.checked; redraw(); });
		mark.style.cssText = "width:14px;height:14px;touch-action:auto;cursor:inherit";
		mark.width = mark.height = 28;
		mark.className = "mark";
		mark.dataset.kind = k;
		label.append(box, mark, kind.many);
		$("legend").append(label);
	});
}
function paintLegend() {
	for (const mark of document.querySelectorAll(".mark")) {
		const c = mark.getContext("2d"), k = Number(mark.dataset.kind);
		c.clearRect(0, 0, 28, 28);
		c.fillStyle = colours[KINDS[k].id];
		shape(c, k, 14, 14, 11);
	}
}
function putTotals() {
	const put = (n, one, many) => {
		const item = make("li");
		item.append(make("b", n.toLocaleString()), n === 1 ? one : many);
		$("totals").append(item);
	};
	put(writers.size, "writer", "writers");
	put([...files.values()].filter((f) => f.versions).length, "file changed", "files changed");
	put(totals[VERSION] + totals[MERGE] + totals[UNDO], "version", "versions");
	put(totals[REFUSAL] + totals[CONFLICT], "refusal", "refusals");
	put(totals[CONFLICT], "conflict", "conflicts");
	put(totals[MERGE], "merge", "merges");
	put(totals[UNDO], "undone change", "undone changes");
}
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
function theme() {
	const now = chosen || (dark.matches ? "dark" : "light");
	document.documentElement.dataset.theme = now;
	$("theme").textContent = now === "dark" ? "Light" : "Dark";
	readColours();
	paintLegend();
	if (draws) draw();
}

function listen() {
	let drag = null;
	canvas.addEventListener("wheel", (event) => {
		event.preventDefault();
		const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 300 : 1;
		if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) * unit / width);
		else zoom(Math.exp(Math.max(-600, Math.min(600, event.deltaY * unit)) * 0.002), place(event).x);
	}, { passive: false });
	canvas.addEventListener("pointerdown", (event) => {
		if (event.button) return;
		drag = { x: event.clientX, view: { ...view }, moved: false };
		canvas.setPointerCapture(event.pointerId);
	});
	canvas.addEventListener("pointermove", (event) => {
		if (drag && (drag.moved || Math.abs(event.clientX - drag.x) > 3)) {
			const by = (drag.x - event.clientX) / (width - GUTTER - 8) * (drag.view.to - drag.view.from);
			drag.moved = true;
			tip.hidden = true;
			look(drag.view.from + by, drag.view.to + by);
		} else {
			hover(place(event), event);
		}
	});
	canvas.addEventListener("pointerup", (event) => {
		const found = drag && !drag.moved ? under(place(event)) : [];
		drag = null;
		if (found.length) { opener = canvas; tip.hidden = true; select(found[0], found); }
	});
	canvas.addEventListener("pointercancel", () => { drag = null; });
	canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
	canvas.addEventListener("keydown", (event) => {
		const act = { ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.6), "=": () => zoom(0.6),
			"-": () => zoom(1.6), Home: () => look(all.from, all.to) }[event.key];
		if (act) { event.preventDefault(); act(); }
	});
	document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !$("panel").hidden) closePanel(); });
	$("close").addEventListener("click", closePanel);
	$("zoom-in").addEventListener("click", () => zoom(0.5));
	$("zoom-out").addEventListener("click", () => zoom(2));
	$("zoom-all").addEventListener("click", () => look(all.from, all.to));
	$("newer").addEventListener("click", () => { pageAt--; listEvents(); });
	$("older").addEventListener("click", () => { pageAt++; listEvents(); });
	$("theme").addEventListener("click", () => {
		chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
		theme();
	});
	dark.addEventListener("change", theme);
	new ResizeObserver(() => { if (canvas.parentElement.clientWidth !== width) redraw(); }).observe(canvas.parentElement);
}

$("title").textContent = "stomp report of " + data.workspace;
document.title = $("title").textContent;
$("span").textContent = `${clock(data.since || first)} to ${clock(data.until)}, made ${clock(data.made)}`;
putLegend();
putTotals();
for (const note of data.notes.split("\n").filter(Boolean)) $("notes").append(make("li", note));
theme();
listFiles();
listWriters();
listen();
draw();
listEvents();

/* For tests: what is there, and where on the page an event is drawn. */
window.__report = {
	ready: true, events: N, lanes, totals, data, columns: e,
	draws: () => draws, bins: () => bins.size, view: () => ({ ...view }), selected: () => selected,
	place(i) {
		const box = canvas.getBoundingClientRect();
		return { x: box.left + centre({ at: binOf(i) }), y: box.top + laneTop(lane[i]) + LANE / 2 };
	},
};
})();
