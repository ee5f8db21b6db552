// Start: connect the elements with their functions, and read the rows.

$("grid").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
$("grid").addEventListener("keydown", onGridKey);
$("body").addEventListener("click", (event) => {
  const line = event.target.closest("[role=row]");
  if (line) {
    select(Number(line.dataset.position), true);
    open(shown[active]);
  }
});
$("filters").addEventListener("input", filter);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", () => setTimeout(filter));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("row").close());
$("row").addEventListener("keydown", (event) => {
  if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    step(event.key === "ArrowDown" ? 1 : -1);
    event.preventDefault();
  }
});
$("row").addEventListener("close", () => select(active, true));
window.addEventListener("resize", draw);
load().then(
  () => {
    fillFilters();
    filter();
    $("grid").setAttribute("aria-busy", "false");
  },
  (error) => {
    $("count").textContent =
      `The rows cannot be read: the file is incomplete, or this browser is too old (${error.message}).`;
  },
);
