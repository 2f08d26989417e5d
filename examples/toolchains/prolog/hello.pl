:- initialization((write(hello), nl, halt)).
