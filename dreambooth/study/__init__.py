"""The user study of the paper's Table 2: blinded questionnaires from two runs or two arms of a bench, and the table from the answers.

The paper (section 4.2 and supplement): questionnaires of 25 comparisons, each answered by 3 users; one question about the subject, one
about the prompt, a third option for neither; majority vote over the users of a pair.
"""

from dreambooth.study.make import Made, StudyMake, make
from dreambooth.study.table import StudyTable, Tallied, table

__all__ = ["Made", "StudyMake", "StudyTable", "Tallied", "make", "table"]
