#[tokio::test]
async fn show() {
    let mut app = crate::application::Application::of(guardian_testkit::TestDatabase::helpdesk().await, crate::helpdesk::DECIDED).await;
    let hardening = app.plan().await;
    std::fs::write("/tmp/pgs/plan.sql", hardening.script()).unwrap();
    std::fs::write("/tmp/pgs/notes.txt", format!("{:#?}", hardening.notes)).unwrap();
}
