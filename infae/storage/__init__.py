"""Files: written aside and renamed, versioned, without pickle."""
