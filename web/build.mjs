// Bundles scripts and styles into dist/: hashed names, a manifest, a brotli twin of what is worth it.
import { build } from "esbuild";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";

const out = "dist";
const WORTH_COMPRESSING = 1024;
mkdirSync(out, { recursive: true });
for (const name of readdirSync(out)) if (name !== ".gitkeep") rmSync(join(out, name), { recursive: true });

const shared = { bundle: true, minify: true, target: ["es2022"], entryNames: "[name]-[hash]", outdir: out, metafile: true, logLevel: "warning" };
const results = await Promise.all([
  build({ ...shared, entryPoints: ["scripts/app.ts", "scripts/live/worker.ts"], format: "esm" }),
  // Classic and blocking: it runs before the page is drawn, so that no page flashes.
  build({ ...shared, entryPoints: ["scripts/hash.ts"], format: "iife" }),
  build({ ...shared, entryPoints: ["styles/app.css"] }),
]);

const manifest = {};
for (const { metafile } of results)
  for (const [file, { entryPoint }] of Object.entries(metafile.outputs)) if (entryPoint) manifest[basename(entryPoint)] = basename(file);
for (const file of Object.values(manifest)) {
  const bytes = readFileSync(join(out, file));
  if (bytes.length < WORTH_COMPRESSING) continue;
  writeFileSync(join(out, `${file}.br`), brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }));
}
writeFileSync(join(out, "manifest.json"), JSON.stringify(manifest));
