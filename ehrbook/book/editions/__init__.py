"""Editions of the book: for students, without solutions; for teachers, with solutions, schedules and slides."""
