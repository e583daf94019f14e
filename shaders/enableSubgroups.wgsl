// Subgroups, for the files that follow: WGSL wants this line before all others.
enable subgroups;
