"""Will a job fit here, and how long will it take: a short probe of the real thing, and what follows from it."""
