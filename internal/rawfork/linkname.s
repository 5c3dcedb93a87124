// Empty: it lets functions without a body be declared, which the runtime has.
