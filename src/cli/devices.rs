//! stub
pub fn of_this_machine(_json: bool) -> String {
    String::new()
}
