"""`dreambooth ui`: the verbs in a browser. Nothing is remembered here: pages show what folders hold, and jobs are processes of their own.

app      the server, put together            guard     who may ask: hosts, origins, the token, sizes of bodies
studio   the root folder, and names in it    jobs      what waits and runs: files, and processes that outlive the server
drafts   a run that is being prepared        uploads   photos by their content
choices  models and ways of learning         form      settings as fields, drawn from their tree
planning what a run would need               events    records.jsonl as server-sent events
batches  tables of subjects, each done by one job       submitting  from a request to a batch: rows, photos, settings, checks
webhooks what comes of batches, reported and retried    batch_removal  one customer's subject taken out
fitting  whether this device trains a model             shared         what many open pages ask for, made once
devices  which ones a command line is at work on
pages    one file for each part of the site  view      templates, and what all pages show
"""
