"use strict";
// Searches the rows that the page carries. Texts become text nodes only, so nothing in a row is ever markup.
(async () => {
  const PAGE = 20;
  const packed = document.getElementById("packed");
  const openAll = (open) => { for (const one of document.querySelectorAll("main details")) if (open) { if (!one.open) { one.open = true; one.dataset.printed = "1"; } } else if (one.dataset.printed) { one.open = false; delete one.dataset.printed; } };
  addEventListener("beforeprint", () => openAll(true));
  addEventListener("afterprint", () => openAll(false));
  if (!packed || typeof DecompressionStream === "undefined") return;
  const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const rows = JSON.parse(await new Response(stream).text());
  for (const row of rows) {
    row.haystack = [row.id, row.instruction, row.response, row.why, row.twin ? [row.twin.id, row.twin.instruction, row.twin.response].join("\n") : ""].join("\n").toLowerCase();
  }
  const form = document.getElementById("finder"), list = document.getElementById("results");
  const status = document.getElementById("found"), more = document.getElementById("more");
  const options = (select, values) => { for (const [value, count] of values) select.append(new Option(`${value} (${count})`, value)); };
  const counts = (key) => { const found = new Map(); for (const row of rows) found.set(row[key], (found.get(row[key]) || 0) + 1); return [...found].sort((a, b) => b[1] - a[1]); };
  options(form.elements.reason, counts("reason"));
  options(form.elements.source, counts("source"));
  for (const one of document.querySelectorAll(".js")) one.classList.remove("hidden");

  const element = (name, text, attributes = {}) => { const made = document.createElement(name); if (text !== undefined) made.textContent = text; for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value); return made; };
  // Marks the words searched for, or what differs from the other text between equal beginnings and ends.
  const marked = (text, words, other) => {
    const made = element("pre");
    if (!text) { made.textContent = "(empty)"; return made; }
    let start = -1, end = -1;
    if (words) { start = text.toLowerCase().indexOf(words); end = start + words.length; }
    else if (other !== undefined && other !== text) {
      start = 0; while (start < text.length && text[start] === other[start]) start += 1;
      let same = 0; while (same < Math.min(text.length, other.length) - start && text[text.length - 1 - same] === other[other.length - 1 - same]) same += 1;
      end = text.length - same;
    }
    if (start < 0 || end <= start) { made.textContent = text; return made; }
    made.append(text.slice(0, start), element("mark", text.slice(start, end)), text.slice(end));
    return made;
  };
  const column = (heading, texts) => { const made = element("div"); made.append(element("h3", heading, { class: "small soft" }), ...texts); return made; };
  const card = (row, words) => {
    const made = element("div", undefined, { class: "row" }), line = element("p"), told = [row.reason];
    if (row.kind === "border") told.push("at the border");
    if (row.why) told.push(row.why);
    line.append(element("code", row.id), element("span", ` · ${told.join(" · ")}`, { class: "soft" }));
    const texts = element("div", undefined, { class: "texts" });
    const twin = row.twin && row.twin.instruction !== undefined ? row.twin : null;
    if (twin) {
      texts.append(column("dropped", [marked(row.instruction, words, twin.instruction), marked(row.response, words, twin.response)]));
      texts.append(column(`stayed: ${twin.id}`, [marked(twin.instruction, words, row.instruction), marked(twin.response, words, row.response)]));
    } else {
      texts.append(column("instruction", [marked(row.instruction, words || (row.span || "").toLowerCase())]), column("response", [marked(row.response, words || (row.span || "").toLowerCase())]));
    }
    made.append(line, texts);
    return made;
  };
  let matches = [], shown = 0;
  const showMore = () => {
    const words = form.elements.text.value.trim().toLowerCase();
    list.append(...matches.slice(shown, shown + PAGE).map((row) => card(row, words)));
    shown = Math.min(shown + PAGE, matches.length);
    status.textContent = matches.length ? `${matches.length} of ${rows.length} rows, ${shown} shown` : "No row matches.";
    more.parentElement.classList.toggle("hidden", shown >= matches.length);
  };
  const search = () => {
    const { reason, source, kind } = form.elements, words = form.elements.text.value.trim().toLowerCase();
    matches = rows.filter((row) => (!reason.value || row.reason === reason.value) && (!source.value || row.source === source.value) && (!kind.value || row.kind === kind.value) && (!words || row.haystack.includes(words)));
    shown = 0; list.replaceChildren(); showMore();
  };
  let waiting;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  more.addEventListener("click", showMore);
  for (const link of document.querySelectorAll("a.choose")) link.addEventListener("click", () => { form.reset(); form.elements.reason.value = link.dataset.reason; search(); });
  search();
})();
