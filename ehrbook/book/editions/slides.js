// Left, right and the paging keys turn slides; n shows the notes. Without this the page scrolls.
const slides = [...document.querySelectorAll("section")];
const shown = () => slides.findLastIndex((slide) => slide.getBoundingClientRect().top < innerHeight / 2);
const turn = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 };
addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "n") document.body.classList.toggle("notes-on");
  const slide = event.key in turn && slides[Math.max(0, shown() + turn[event.key])];
  if (!slide) return;
  event.preventDefault();
  slide.scrollIntoView();
  history.replaceState(null, "", "#" + slide.id);
});
