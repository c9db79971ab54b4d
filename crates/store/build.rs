//! `sqlx::migrate!` embeds the folder but does not watch it for new files.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
