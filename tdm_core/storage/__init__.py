"""Where acknowledged votes live: the study's store on a database."""
