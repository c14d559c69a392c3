"""The demo: the whole service on a PostgreSQL of its own, with a sample receiver, a mail server, and a story to watch.

run        runs it, and ends it in order      stage     sets up and takes away
story      tells what happens                 screen    prints
scenario   what is played                     judge     decides whether it went well
receiver   a subscriber's side                mailbox   a mail server
"""
