/** Boxes that scroll sideways (code, tables, formulas) can be reached with Tab, while there is something to scroll. */
export function watchOverflow(root) {
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (!target.isConnected) sizes.unobserve(target);
      else if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const look = (node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    if (node.matches("pre, .wide")) sizes.observe(node);
    for (const inner of node.querySelectorAll("pre, .wide")) sizes.observe(inner);
  };
  new MutationObserver((changes) => {
    for (const change of changes) change.addedNodes.forEach(look);
  }).observe(root, { childList: true, subtree: true });
  look(root);
}
