"""The bridge to Objective-C: what is called (declarations), how it is called (runtime), nothing of Core ML's meaning.

declarations   frameworks, selectors and their expected type encodings: data, no behaviour
encoding       the runtime's type encodings, parsed
runtime        loading, messages, pools, NSError: Apple's runtime, GNUstep's libobjc2 or GCC's, decided in one place
foundation     strings, lists, dictionaries, numbers and errors, both ways
block          a Python function as an Objective-C block
hooks          a Python observer around an existing method
exceptions     what is thrown, heard at the moment it is thrown
"""
