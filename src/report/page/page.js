"use strict";
// The rows of each store, filtered by what its form says. The fragment of the address has the same,
// so that what is shown can be linked to: #s1-rows?outcome=sdc&bit=62
const PAGE = 200;

for (const section of document.querySelectorAll(".rows")) {
  const { columns, rows } = JSON.parse(section.querySelector("script").textContent);
  const form = section.querySelector("form");
  const [head, body] = section.querySelectorAll("thead, tbody");
  const pages = section.querySelector(".pages");
  const [back, on] = pages.querySelectorAll("button");
  // Searched as they are read: once made, never again.
  const texts = rows.map((row) => row.flat().join(" ").toLowerCase());
  const fields = ["kind", "outcome", "target", "bit"].map((name) => [name, columns.indexOf(name)]);
  let found = [];
  let first = 0;

  const has = (cell, wanted) => (Array.isArray(cell) ? cell.includes(wanted) : cell === wanted);

  function search() {
    const wanted = fields.map(([name, column]) => [column, form.elements[name].value]).filter(([, value]) => value);
    const text = form.elements.text.value.toLowerCase();
    found = rows.filter((row, index) => wanted.every(([column, value]) => has(row[column], value)) && texts[index].includes(text));
    first = 0;
    show();
  }

  function cell(value, column) {
    const cell = document.createElement("td");
    cell.textContent = Array.isArray(value) ? list(value) : value ?? "";
    if (columns[column] === "outcome") {
      cell.className = "outcome";
      cell.style.setProperty("--own", `var(--${value.replace("_", "-")})`);
    }
    return cell;
  }

  const list = (all) => (all.length > 3 ? `${all.slice(0, 3).join(", ")}, …` : all.join(", "));

  function line(cells) {
    const line = document.createElement("tr");
    line.append(...cells);
    return line;
  }

  function show() {
    const last = Math.min(first + PAGE, found.length);
    body.replaceChildren(...found.slice(first, last).map((row) => line(row.map(cell))));
    section.querySelector(".shown").textContent = `${found.length} of ${rows.length} runs`;
    pages.hidden = found.length <= PAGE;
    pages.querySelector("span").textContent = `${first + 1} to ${last}`;
    back.disabled = first === 0;
    on.disabled = last === found.length;
  }

  function remember() {
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    const query = new URLSearchParams(chosen).toString();
    history.replaceState(null, "", `#${section.id}${query && "?" + query}`);
  }

  function recall() {
    const [id, query] = decodeFragment();
    if (id !== section.id) return;
    const chosen = new URLSearchParams(query);
    for (const field of form.elements) if (field.name) field.value = chosen.get(field.name) ?? "";
    search();
    section.scrollIntoView();
  }

  function decodeFragment() {
    const [id, ...query] = location.hash.slice(1).split("?");
    return [id, query.join("?")];
  }

  function turn(by) {
    first += by;
    show();
    section.querySelector(".shown").scrollIntoView();
  }

  head.append(line(columns.map((name) => Object.assign(document.createElement("th"), { scope: "col", textContent: name }))));
  form.hidden = false;
  form.addEventListener("input", () => { search(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields are empty only after this event.
  form.addEventListener("reset", () => setTimeout(() => { search(); remember(); }));
  back.addEventListener("click", () => turn(-PAGE));
  on.addEventListener("click", () => turn(PAGE));
  addEventListener("hashchange", recall);
  search();
  recall();
}
