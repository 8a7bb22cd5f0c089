// Filters, sorts and blends the pictures of a page that is complete without this.
(() => {
  "use strict";
  const form = document.getElementById("browse");
  const maps = document.getElementById("maps");
  const status = document.getElementById("shown");
  const rooms = Array.from(maps.querySelectorAll(".room"));
  const pictures = Array.from(maps.querySelectorAll(".picture"), (element, place) => ({
    element,
    place,
    room: element.parentElement,
    sorted: element.querySelector(".sorted"),
    label: element.dataset.label,
    picks: element.dataset.picks.split(" "),
    strata: JSON.parse(element.dataset.strata),
    scores: JSON.parse(element.dataset.scores),
  }));
  const chosen = (name) => form.elements.namedItem(name)?.value ?? "";
  const words = (name) => form.elements.namedItem(name).selectedOptions[0].textContent;

  function fits(picture) {
    const wanted = { set: chosen("set"), label: chosen("label"), pick: chosen("pick"), stratum: chosen("stratum") };
    return (
      (wanted.set === "" || picture.room.dataset.set === wanted.set) &&
      (wanted.label === "" || picture.label === wanted.label) &&
      (wanted.pick === "" || picture.picks.includes(wanted.pick)) &&
      (wanted.stratum === "" || picture.strata[chosen("compare")] === wanted.stratum)
    );
  }

  function sort() {
    const score = chosen("score");
    const order = Number(chosen("order"));
    const of = (picture) => (score === "" ? picture.place : picture.scores[chosen("of")][score]);
    const compare = (first, second) => {
      const [a, b] = [of(first), of(second)];
      if (a === null || b === null) return (a === null) - (b === null) || first.place - second.place;
      return (score === "" ? a - b : order * (a - b)) || first.place - second.place;
    };
    for (const picture of [...pictures].sort(compare)) {
      picture.room.append(picture.element);
      const value = of(picture);
      picture.sorted.textContent =
        score === "" ? "" : `${words("score")} of ${words("of")}: ${value === null ? "none" : value.toFixed(3)}`;
    }
  }

  function show() {
    let count = 0;
    for (const picture of pictures) {
      picture.element.hidden = !fits(picture);
      count += picture.element.hidden ? 0 : 1;
    }
    for (const room of rooms) room.hidden = !room.querySelector(".picture:not([hidden])");
    status.textContent = `${count} of ${pictures.length} pictures${count ? "" : ": nothing fits all that is chosen"}`;
  }

  // The answers are those of the network whose difference is shown; with none shown there are none to ask for.
  function allow() {
    const stratum = form.elements.namedItem("stratum");
    if (stratum) {
      stratum.disabled = chosen("compare") === "";
      if (stratum.disabled) stratum.value = "";
    }
    for (const name of ["of", "order"]) {
      const control = form.elements.namedItem(name);
      if (control) control.disabled = chosen("score") === "";
    }
  }

  function blend() {
    const share = Number(chosen("opacity")) / 100;
    maps.style.setProperty("--opacity", share);
    maps.style.setProperty("--grey", share > 0 ? 1 : 0);
    form.querySelector("output").textContent = `${chosen("opacity")}%`;
  }

  function update() {
    allow();
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
