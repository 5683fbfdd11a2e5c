// The page: the settings of a run, several runs side by side, and each run by itself with its epochs to choose from.

// Listeners are never taken off the clock; those of charts that were replaced move what nobody sees.
function newClock(epochs) {
  const listeners = [];
  return {
    now: Math.max(0, epochs - 1),
    on(f) { listeners.push(f); },
    set(epoch) {
      const next = Math.min(epochs - 1, Math.max(0, epoch));
      if (next === this.now || Number.isNaN(next)) return;
      this.now = next;
      listeners.forEach((f) => f());
    },
  };
}

function stageOf(run, epoch) {
  return run.stages.length ? run.stages[placeOf(run.stages.map(([start]) => start), epoch)][1] : "";
}

function slider(run, clock) {
  const input = make("input", { type: "range", min: "1", max: String(run.epochs), step: "1", value: String(clock.now + 1) });
  const output = make("output"), digest = make("p", { class: "digest", "aria-live": "polite" });
  const tell = () => {
    const stage = stageOf(run, clock.now);
    const text = `${clock.now + 1} of ${run.epochs}`;
    input.value = String(clock.now + 1);
    input.setAttribute("aria-valuetext", `epoch ${text}${stage && `, ${stage}`}`);
    output.textContent = text;
    const lines = run.curves.flatMap((chart) => chart.lines.map((line) => [chart.key, line.name, short(upTo(line.values, clock.now)), chart.unit]));
    const told = lines.map(([key, name, figure, unit]) => {
      if (key === "accuracy") return `${name} ${figure} %`;
      return { params: `${figure} ${unit.slice(0, -1)} weights`, macs: `${figure} ${unit.slice(0, -1)} MACs`, skip_connects: `${figure} skip connection${figure === "1" ? "" : "s"}` }[key];
    });
    digest.textContent = [stage, ...told].filter((text) => text).join(" · ");
  };
  input.addEventListener("input", () => clock.set(Number(input.value) - 1));
  tell();
  clock.on(tell);
  return make("div", { class: "epoch" }, make("label", {}, "Epoch ", input, output), digest);
}

function factList(run) {
  return make("dl", {}, ...run.facts.map(([, title, text]) => make("div", {}, make("dt", {}, title), make("dd", {}, text))));
}

// The questions that a page begins with.
function answers(run) {
  // Each word by itself, so that lines break between words.
  const words = (text) => text.split(" ").flatMap((word) => [make("span", {}, word), " "]);
  const command = (text) => (text ? [make("code", {}, ...words(text))] : []);
  const rows = run.answers.map(([question, text, line]) => make("div", {}, make("dt", {}, question), make("dd", {}, text, ...command(line))));
  return make("dl", { class: "card answers" }, ...rows);
}

function about(run) {
  const flags = make("div", { class: "flags" }, ...run.flags.map(([name, value]) => make("span", {}, `--${name}=${value}`)));
  const parts = run.parts ? [make("h3", {}, run.parts.title), table(run.parts.head, run.parts.rows, true)] : [];
  const started = run.flags.length ? [make("details", {}, make("summary", {}, `How it was started: ${run.flags.length} flags`), flags)] : [];
  return make("div", { class: "card" }, factList(run), ...parts, ...started);
}

// The counts of skip connections have a chart of their own where cells are drawn.
function ofCells(run) {
  return Boolean(run.skips.counts.length && run.drawings);
}

function body(run) {
  const clock = newClock(run.epochs), found = [answers(run)];
  const heading = (text) => found.push(make("h2", {}, text));
  if (!run.epochs) found.push(make("p", {}, "No epoch is finished yet."));
  if (run.epochs > 1) found.push(slider(run, clock));
  if (run.drawings) {
    heading("Cells");
    found.push(cells(run.drawings, clock));
  }
  if (run.path) {
    heading("Path");
    found.push(trellis(run.path, clock));
  }
  const curves = run.curves.filter((chart) => chart.key !== "skip_connects" || !ofCells(run));
  if (curves.length) {
    heading("Curves");
    const charts = curves.map((chart) => card(chart.title, chart.unit, lineChart({ ...chart, epochs: run.epochs, stages: run.stages }, clock)));
    found.push(make("div", { class: "charts" }, ...charts));
  }
  if (run.alpha) {
    heading("Mixing weights");
    found.push(...alphaSection(run.alpha, run, clock));
  }
  if (run.wins.names.length && run.wins.at.length) {
    heading("Operations");
    const unit = run.path ? "steps of the path" : "edges of the distinct cells";
    found.push(card("Operations of the architecture", unit, countGrid("operations of the architecture by epoch", run.wins.names, run.wins.counts, run.wins.at, run.epochs, clock)));
  }
  if (ofCells(run)) {
    found.push(card("Skip connections of each cell", "", countGrid("skip connections of each cell by epoch", run.drawings.titles, run.skips.counts, run.skips.at, run.epochs, clock)));
  }
  if (run.family) {
    heading("Family of networks");
    found.push(make("div", { class: "charts" }, card("Accuracy by size", "%, shared weights", scatter(run.family)), card("Networks of the family", "", table(run.family.head, run.family.rows))));
    if (run.best) found.push(make("h3", {}, "The most accurate of them"), cells(run.best, newClock(1)));
  }
  heading("All figures");
  found.push(about(run));
  return found;
}

// The runs' figures as a table, and every chart that two or more of them have, laid over one another.
function comparison(runs) {
  const keys = [...new Map(runs.flatMap((run) => run.facts.map(([key, title]) => [key, title])))];
  const value = (run, key) => (run.facts.find((fact) => fact[0] === key) || ["", "", "–"])[2];
  const rows = keys.map(([key, title]) => [title, ...runs.map((run) => value(run, key))]);
  const groups = new Map();
  runs.forEach((run, number) => run.curves.forEach((chart) => chart.lines.forEach((line) => {
    const group = groups.get(line.column) || { title: chart.lines.length > 1 ? `${chart.title}: ${line.kind}` : chart.title, unit: chart.unit, lines: [], looks: [], runs: new Set() };
    group.lines.push({ name: line.part ? `${run.name}, ${line.part}` : run.name, values: line.values });
    group.looks.push(number);
    group.runs.add(number);
    groups.set(line.column, group);
  })));
  const epochs = Math.max(...runs.map((run) => run.epochs));
  const charts = [...groups.values()].filter((group) => group.runs.size > 1)
    .map((group) => card(group.title, group.unit, lineChart({ ...group, epochs }, null)));
  return [make("h2", {}, "Side by side"), make("div", { class: "card side" }, table(["", ...runs.map((run) => run.name)], rows)), make("div", { class: "charts" }, ...charts)];
}

function section(run, open) {
  const details = make("details", { class: "run" }, make("summary", {}, run.name));
  const once = () => {
    if (details.open && details.childElementCount === 1) details.append(...body(run));
  };
  details.addEventListener("toggle", once);
  details.open = open;
  if (open) once();
  return details;
}

const page = document.getElementById("page");
const runs = DATA.runs;
if (runs.length === 1) {
  page.replaceChildren(make("h1", {}, runs[0].name), ...body(runs[0]));
} else {
  page.replaceChildren(make("h1", {}, `${runs.length} runs`), ...comparison(runs), ...runs.map((run, k) => section(run, k === 0)));
}
document.documentElement.dataset.ready = "yes";
