// Every text that can be seen, with the contrast of its colour to what lies behind it (WCAG 2).
() => {
  const channels = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const bright = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = channels(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!text || ["SCRIPT", "OPTION"].includes(element.tagName) || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ink = channels(element instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [bright(ink), bright(behind(element))].sort((a, b) => a - b);
    found.push({ text: text.slice(0, 40), ratio: Math.round(((high + 0.05) / (low + 0.05)) * 100) / 100 });
  }
  return found;
}
