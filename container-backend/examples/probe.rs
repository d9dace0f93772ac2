//! Prints what this host permits the calling user.
#![expect(clippy::print_stdout, reason = "an example that talks")]

fn main() {
    let host = container_backend::probe();
    println!("root        {}", host.is_root);
    println!("native      {}", host.native);
    println!("container   {}", host.container);
    for (layer, permission) in &host.layers {
        println!("  {:<13} {permission}", layer.name());
    }
    println!("cgroups     {}", host.cgroups.name());
    for (name, permission) in &host.limits {
        println!("  {name:<13} {permission}");
    }
}
