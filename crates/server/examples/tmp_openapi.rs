#![allow(missing_docs, clippy::print_stdout)]
fn main() {
    print!("{}", guardian_server::openapi_json());
}
