//! `sqlx::migrate!` embeds the folder but does not watch it for new files.

fn main() {
    #[expect(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]
    {
        println!("cargo:rerun-if-changed=migrations");
    }
}
