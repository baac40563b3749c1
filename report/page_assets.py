"""The style and the script of a report's page. The script only names the value under the pointer."""

from __future__ import annotations

from .charts import DARK, LIGHT
from .charts import STYLE as CHARTS

_NAMES = ("line", "muted", "anonymous", "file", "plan", "limit")


def _variables(colours: tuple[str, ...], back: str, card: str, text: str) -> str:
    named = "".join(f"--{name}:{colour};" for name, colour in zip(_NAMES, colours, strict=True))
    return f":root{{{named}--back:{back};--card:{card};--text:{text}}}"


STYLE = (
    _variables(LIGHT, "#f5f6f8", "#ffffff", "#17202b")
    + f"@media(prefers-color-scheme:dark){{{_variables(DARK, '#11161d', '#1a212b', '#e8ecf1')}}}"
    + CHARTS
    + """
*{box-sizing:border-box}:root{color-scheme:light dark}
body{margin:0;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:960px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:1.4rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:0 0 10px}h3{font-size:.925rem;margin:14px 0 4px}p{margin:6px 0}
.muted{color:var(--muted)}.small{font-size:.875rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px;margin-top:16px}
.verdict{display:inline-block;font-weight:650;padding:2px 12px;border-radius:99px;border:2px solid}
.good{color:var(--plan)}.bad{color:var(--limit)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(136px,1fr));gap:12px;margin-top:14px}
.figure b{display:block;font-size:1.5rem;line-height:1.2;font-weight:650}
.figure span{color:var(--muted);font-size:.875rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.925rem}
th,td{padding:6px 10px 6px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:break-word}
th{color:var(--muted);font-weight:500}.n{text-align:right;white-space:nowrap}
svg{display:block;width:100%;height:auto}
.key{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.875rem;color:var(--muted)}
.key i{display:inline-block;width:14px;height:10px;border-radius:2px;margin-right:6px}
@media(max-width:520px){table{font-size:.8rem}th,td{padding-right:7px}
td:not(.n){min-width:6.2em;max-width:14em;overflow-wrap:anywhere}
.stack{font-size:.925rem}.stack thead{display:none}
.stack tr{display:block;padding:8px 0;border-bottom:1px solid var(--line)}
.stack td{display:block;border:0;padding:1px 0;max-width:none;text-align:left;white-space:normal}
.stack td:empty{display:none}.stack td:first-child{font-weight:600}
.stack td::before{content:attr(data-head) ": ";color:var(--muted);font-weight:400}}
#at{min-height:1.5em}details summary{cursor:pointer}
"""
)

SCRIPT = """
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const chart = document.getElementById("memory"), at = document.getElementById("at");
  if (!chart || !at || !data.samples.length) return;
  const end = data.samples[data.samples.length - 1].t_s;
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const t = end * ((event.clientX - box.left) / box.width * 720 - 50) / 662;
    const near = data.samples.reduce((a, b) => Math.abs(b.t_s - t) < Math.abs(a.t_s - t) ? b : a);
    at.textContent = near.t_s.toFixed(1) + " s: " + ((near.device_bytes ?? near.rss_bytes) / 2 ** 30).toFixed(2) +
      " GiB, " + (near.anonymous_bytes / 2 ** 30).toFixed(2) + " anonymous";
  });
})();
"""
