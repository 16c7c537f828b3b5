// How many columns of tiles there are: those with which the pictures are largest and all tiles fit on the screen.

const GAP = 12; // px, as in tiles.css
const LEAST = { width: 230, height: 150 }; // of a tile; on smaller screens one scrolls
const BELOW = 74; // of a tile: the label and the timeline
const ASPECT = 16 / 10; // of a picture

// {columns, rows, fits} for `count` tiles in a space of width x height pixels.
export function grid(count, width, height) {
  let best = null;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const [wide, high] = [(width - GAP * (columns - 1)) / columns, (height - GAP * (rows - 1)) / rows];
    if (wide < LEAST.width || high < LEAST.height) continue;
    const picture = Math.min(wide, (high - (high < 260 ? 0 : BELOW)) * ASPECT);
    if (!best || picture > best.picture) best = { columns, rows, picture, fits: true };
  }
  if (best) return best;
  const columns = Math.max(1, Math.min(count, Math.floor((width + GAP) / (300 + GAP))));
  return { columns, rows: Math.ceil(count / columns), fits: false };
}
