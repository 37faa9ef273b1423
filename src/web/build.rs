//! Checks that the pages' scripts and styles were built; never builds them (packagers have no network here).

fn main() {
    println!("cargo:rerun-if-changed=../../web/dist");
    println!("cargo:rerun-if-changed=../../web/templates");
    if !std::path::Path::new("../../web/dist/manifest.json").exists() {
        println!("cargo:warning=the pages come without scripts and styles: run `npm ci && npm run build` in web/");
    }
}
