"""Where the course lives. Written by `make sync` from the `repository` lines of _config.yml."""

REPOSITORY = "https://github.com/babygpt-course/babygpt-course"
BRANCH = "main"
SITE = "https://babygpt-course.github.io/babygpt-course"
