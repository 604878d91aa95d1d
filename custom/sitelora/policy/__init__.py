"""What a site allows a job to be and to take: one file at the site, three shipped levels, one judge of a whole job."""
