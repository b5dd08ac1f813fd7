"""The style sheet of a report: dark or light as the reader's system is, one column on a phone."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6672;--paper:#fff;--card:#f5f7f9;--line:#d5dbe1;
--c0:#0b6bcb;--c1:#c2410c;--c2:#15803d;--c3:#7e22ce;--c4:#b91c5c;--c5:#0e7490;--c6:#854d0e;--c7:#4b5563}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--paper:#14181d;--card:#1d232a;--line:#36404a;
--c0:#6cb2ff;--c1:#ff9b66;--c2:#5fd38d;--c3:#c79bff;--c4:#ff85b3;--c5:#5ccfe6;--c6:#e3b341;--c7:#a8b3bf}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:1rem;color:var(--ink);background:var(--paper);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.5rem;line-height:1.25;overflow-wrap:anywhere}h2{margin-top:2.5rem;font-size:1.25rem}
h3{font-size:1.05rem}h4{margin:0;overflow-wrap:anywhere}header p,article p,figcaption{color:var(--soft)}
code{font:.85em ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:.3rem}
th,td{padding:.35rem .7rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
th[scope=row],th:first-child{text-align:left}td{white-space:nowrap}
thead th{border-bottom:2px solid var(--line)}
details{margin:.6rem 0;padding:.5rem .8rem;background:var(--card);border-radius:.5rem}
details details{background:var(--paper)}summary{cursor:pointer}.bad summary{color:var(--c1)}
.plots{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
figure{margin:0}figcaption{font-size:.85rem}
svg{width:100%;height:auto;font-size:12px}svg text{fill:var(--ink)}
.grid{color:var(--line)}.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;padding:0;list-style:none}
.legend li::before{content:"●";margin-right:.4rem}.legend span{color:var(--ink)}
article{margin:.8rem 0;padding-top:.6rem;border-top:1px solid var(--line)}article p{margin:.1rem 0 .5rem}
.three{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,230px),1fr))}
.three img{display:block;width:100%;height:130px;image-rendering:auto}audio{width:100%;margin-top:.3rem}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}
.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}
"""
