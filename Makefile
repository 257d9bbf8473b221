.PHONY: test demo lint bench
test: ; python3 dev.py test
demo: ; python3 dev.py demo
lint: ; python3 dev.py lint
bench: ; python3 dev.py bench
