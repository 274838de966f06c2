"""How is HRM-Text trained, run and evaluated?"""
