// Filters, sorts and blends the pictures; the page is complete without this script.
(() => {
  "use strict";
  const form = document.getElementById("browse");
  const maps = document.getElementById("maps");
  const status = document.getElementById("shown");
  const sections = Array.from(maps.querySelectorAll(".room"));
  const pictures = Array.from(maps.querySelectorAll(".picture"), (element, place) => ({
    element,
    place,
    section: element.parentElement,
    sorted: element.querySelector(".sorted"),
    label: element.dataset.label,
    picks: element.dataset.picks.split(" "),
    strata: JSON.parse(element.dataset.strata),
    scores: JSON.parse(element.dataset.scores),
  }));
  let sortedBy = ",,1";
  const selected = (name) => form.elements.namedItem(name)?.value ?? "";
  const label = (name) => form.elements.namedItem(name).selectedOptions[0].textContent;

  function matches(picture) {
    const wanted = { set: selected("set"), label: selected("label"), pick: selected("pick"), stratum: selected("stratum") };
    return (
      (wanted.set === "" || picture.section.dataset.set === wanted.set) &&
      (wanted.label === "" || picture.label === wanted.label) &&
      (wanted.pick === "" || picture.picks.includes(wanted.pick)) &&
      (wanted.stratum === "" || picture.strata[selected("compare")] === wanted.stratum)
    );
  }

  function sort() {
    const score = selected("score");
    const wanted = [score, score && selected("of"), score === "" ? 1 : selected("order")].join();
    if (wanted === sortedBy) return;
    sortedBy = wanted;
    const order = Number(selected("order"));
    const valueOf = (picture) => (score === "" ? picture.place : picture.scores[selected("of")][score]);
    const compare = (first, second) => {
      const [a, b] = [valueOf(first), valueOf(second)];
      if (a === null || b === null) return (a === null) - (b === null) || first.place - second.place;
      return (score === "" ? a - b : order * (a - b)) || first.place - second.place;
    };
    for (const picture of [...pictures].sort(compare)) {
      picture.section.append(picture.element);
      const value = valueOf(picture);
      picture.sorted.textContent =
        score === "" ? "" : `${label("score")} of ${label("of")}: ${value === null ? "none" : value.toFixed(3)}`;
    }
  }

  function show() {
    let count = 0;
    for (const picture of pictures) {
      picture.element.hidden = !matches(picture);
      count += picture.element.hidden ? 0 : 1;
    }
    for (const section of sections) section.hidden = !section.querySelector(".picture:not([hidden])");
    status.textContent = `${count} of ${pictures.length} pictures${count ? "" : ": no picture matches all filters"}`;
  }

  // The filter by answers applies to the network whose difference is shown; it is disabled if no difference is shown.
  function enableControls() {
    const stratum = form.elements.namedItem("stratum");
    if (stratum) {
      stratum.disabled = selected("compare") === "";
      if (stratum.disabled) stratum.value = "";
    }
    for (const name of ["of", "order"]) {
      const control = form.elements.namedItem(name);
      if (control) control.disabled = selected("score") === "";
    }
  }

  function blend() {
    const share = Number(selected("opacity")) / 100;
    maps.style.setProperty("--opacity", share);
    maps.style.setProperty("--grey", share > 0 ? 1 : 0);
    form.querySelector("output").textContent = `${selected("opacity")}%`;
  }

  function update() {
    enableControls();
    show();
    sort();
    blend();
  }

  document.getElementById("choices").hidden = false;
  form.addEventListener("change", update);
  form.addEventListener("input", blend);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
  });
  update();
})();
