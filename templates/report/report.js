// Filters, sorts and folds what the page says already. It asks nobody for anything.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

  // ---- filters ----
  for (const form of all("form.controls")) {
    const section = document.getElementById(form.dataset.for);
    // What a row says at first sight is searched, and what its check is called; a component's neighbours are not.
    const text = (row) => {
      const cells = [...row.cells].filter((cell) => !cell.matches(".why"));
      const check = row.closest("details.group")?.querySelector("summary code");
      return [...cells, check].map((one) => one?.dataset.all ?? one?.textContent ?? "").join(" ").toLowerCase();
    };
    const rows = all("tbody tr", section).map((row) => ({ row, text: text(row) }));
    const groups = all("details.group", section);
    const search = form.querySelector("input[type=search]");
    const levels = all("input[type=checkbox]", form);
    const choices = all("select[data-match]", form);
    const shown = form.querySelector(".shown");

    const filter = () => {
      const wanted = words(search.value);
      const on = new Set(levels.filter((box) => box.checked).map((box) => box.value));
      let count = 0;
      for (const { row, text } of rows) {
        row.hidden =
          (levels.length > 0 && !on.has(row.dataset.level)) ||
          choices.some((choice) => choice.value && row.dataset[choice.dataset.match] !== choice.value) ||
          !wanted.every((word) => text.includes(word));
        if (!row.hidden) count += 1;
      }
      for (const group of groups) {
        group.hidden = all("tbody tr", group).every((row) => row.hidden);
      }
      const noun = form.dataset.for;
      shown.textContent = count === rows.length ? `All ${count} ${noun} shown` : `${count} of ${rows.length} ${noun} shown`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    filter();

    const fold = form.querySelector("[data-fold]");
    if (fold) {
      const name = () => {
        fold.textContent = groups.some((group) => group.open) ? "Fold all" : "Unfold all";
      };
      fold.addEventListener("click", () => {
        const open = !groups.some((group) => group.open);
        for (const group of groups) group.open = open;
        name();
      });
      for (const group of groups) group.addEventListener("toggle", name);
    }
    // What a link leads to is shown, whatever the filter says.
    const reveal = (hash) => {
      const target = hash && document.getElementById(hash.slice(1));
      if (!target || !section.contains(target) || !target.matches("tr")) return;
      if (target.hidden) {
        form.reset();
        filter();
      }
      const more = target.querySelector("details");
      if (more) more.open = true;
      target.scrollIntoView({ block: "center" });
    };
    addEventListener("hashchange", () => reveal(location.hash));
    // A link to where the address leads already changes no hash, and what it leads to may be hidden since.
    addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#"]');
      if (link?.hash === location.hash) reveal(link.hash);
    });
    reveal(location.hash);
  }

  // ---- sorting ----
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  for (const header of all("th[data-sortable]")) {
    const body = header.closest("table").tBodies[0];
    const column = header.cellIndex;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.sort ?? (cell.querySelector("summary") ?? cell).textContent.trim();
    };
    button.addEventListener("click", () => {
      const up = header.getAttribute("aria-sort") !== "ascending";
      for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => collator.compare(key(a), key(b)) * (up ? 1 : -1));
      body.append(...rows);
    });
  }

  // ---- on paper all is unfolded ----
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])").filter((one) => !one.closest(".components"));
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
})();
