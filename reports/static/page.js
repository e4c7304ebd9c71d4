// Theme and contents list. Without script a page follows the system and is complete.
(() => {
  const root = document.documentElement, themes = ["system", "light", "dark"];
  let theme = "system";
  root.classList.add("js");
  const paint = (name) => {
    theme = themes.includes(name) ? name : "system";
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
  };
  try { paint(localStorage.getItem("cogeval-theme")); } catch { /* storage is off */ }
  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector(".theme");
    const name = () => { button.textContent = `Theme: ${theme}`; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      paint(themes[(themes.indexOf(theme) + 1) % 3]);
      try { localStorage.setItem("cogeval-theme", theme); } catch { /* kept for this page alone */ }
      name();
    });
    // On a phone the site's pages are a row that scrolls: the one that is open is in sight.
    const nav = document.querySelector(".bar nav"), here = nav?.querySelector("[aria-current]");
    if (here) nav.scrollLeft = here.offsetLeft - nav.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;
    // The section that is read is marked in the contents list.
    const links = [...document.querySelectorAll(".contents a")];
    const mark = () => {
      let now = links[0];
      for (const link of links) if (document.getElementById(link.hash.slice(1)).getBoundingClientRect().top < innerHeight / 3) now = link;
      for (const link of links) if (link === now) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    };
    if (links.length) { addEventListener("scroll", mark, { passive: true }); mark(); }
  });
})();
