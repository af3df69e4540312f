"""The frame of the report: a page that loads nothing."""

import string

PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title - perceiver_stream</title>
<style>
:root { color-scheme: light; --ink: #111827; --soft: #6b7280; --line: #e5e7eb; }
* { box-sizing: border-box; }
body { margin: 0; background: #f3f4f6; color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 26px; margin: 0 0 12px; }
h1 small, h3 small { color: var(--soft); font-weight: 400; }
h2 { font-size: 19px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 20px 0 6px; }
h3 small { font-size: 13px; margin-left: 6px; }
h4 { font-size: 14px; margin: 22px 0 6px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 22px 22px; margin-top: 18px; overflow-x: auto; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; }
.facts div { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 8px 14px; }
.facts b { display: block; font-size: 17px; font-variant-numeric: tabular-nums; }
.facts span { color: var(--soft); font-size: 12px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: bottom; }
th { font-weight: 500; color: var(--soft); max-width: 120px; }
table.plain th, table.plain td { text-align: left; }
table.plain th { white-space: nowrap; max-width: none; padding-right: 24px; }
td.best { font-weight: 700; }
.good { color: #15803d; }
.bad { color: #b91c1c; }
td small { color: var(--soft); }
.note { color: var(--soft); font-size: 13px; max-width: 900px; }
img.figure { display: block; max-width: 100%; height: auto; }
img.legend { float: left; width: 64px; margin: 0 14px 8px 0; }
details { margin-top: 10px; clear: both; }
summary { cursor: pointer; font-weight: 600; }
.blocks { display: flex; flex-wrap: wrap; gap: 0 12px; }
.blocks h4 { padding-left: 110px; }
.strip { display: grid; grid-template-columns: 100px minmax(0, 1fr); gap: 3px 10px;
  align-items: center; max-width: 100%; }
.strip > span { color: var(--soft); font-size: 12px; text-align: right; }
.strip img { width: 100%; display: block; image-rendering: pixelated; }
.strip img.sound { height: 96px; }
.captions { display: flex; font-size: 12px; font-variant-numeric: tabular-nums; }
.captions span { flex: 1; text-align: center; }
.captions i { color: var(--soft); font-style: normal; }
pre { font-size: 12px; line-height: 1.45; background: #f9fafb; padding: 12px; overflow-x: auto; }
</style></head><body><main>
<h1>$title <small>what was predicted, and how well</small></h1>
<div class="facts">$facts</div>
$body
</main></body></html>
""")
