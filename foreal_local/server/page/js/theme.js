/** The colours that were chosen, before anything is drawn; so no module, which would come too late. */
(function () {
  const KEY = "foreal.theme";
  const root = document.documentElement;
  window.theme = {
    get: () => root.dataset.theme ?? "",
    set(name) {
      if (name) root.dataset.theme = name;
      else delete root.dataset.theme;
      try {
        localStorage.setItem(KEY, name);
      } catch {
        // switched off: it holds until the page is left
      }
    },
  };
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
    root.classList.toggle("authors", localStorage.getItem("foreal.authors") !== "off");
  } catch {
    // switched off: the system's colours
  }
})();
